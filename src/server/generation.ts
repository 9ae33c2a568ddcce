import { AppError } from '../core/errors.js';
import type { FinishReason } from '../models/engine/engine.js';
import type { CompletionAsk, CompletionEvent, TextModel, TextToken } from '../models/text-model.js';
import type { Schemas } from './contract.js';
import type { Metrics } from './metrics.js';
import { inBatches, merged } from './streaming/batches.js';

/** From prompts to one stream of events: what completions, chat and responses have in common. */

export interface GenerationContext {
  readonly metrics: Metrics;
  /** Path in the contract, for the metrics. */
  readonly route: string;
  readonly receivedAtMs: number;
  readonly signal: AbortSignal;
}

export type EventBatches = AsyncIterable<readonly CompletionEvent[]>;

/**
 * Starts every ask, or none. Choice `c` of ask `a` is numbered `a * n + c`.
 * @throws AppError of the model, before any event: nothing has been sent yet.
 */
export async function generate(
  model: TextModel,
  asks: readonly CompletionAsk[],
  { metrics, route, receivedAtMs, signal }: GenerationContext,
): Promise<EventBatches> {
  const labels = { model: model.id, route };
  if (asks.length === 1)
    return metrics.timed(labels, receivedAtMs, inBatches(await model.complete(asks[0]!, signal)));
  const siblings = new AbortController();
  const either = AbortSignal.any([signal, siblings.signal]);
  const starts = await Promise.allSettled(asks.map((ask) => model.complete(ask, either)));
  const refused = starts.find((start) => start.status === 'rejected');
  if (refused !== undefined) {
    siblings.abort(new AppError('request_cancelled', 'Another prompt of the request was refused'));
    throw refused.reason;
  }
  const streams = starts.map(
    (start) => (start as PromiseFulfilledResult<AsyncIterable<CompletionEvent>>).value,
  );
  return metrics.timed(labels, receivedAtMs, inBatches(numbered(streams, asks, siblings)));
}

async function* numbered(
  streams: readonly AsyncIterable<CompletionEvent>[],
  asks: readonly CompletionAsk[],
  siblings: AbortController,
): AsyncGenerator<CompletionEvent> {
  try {
    for await (const [index, event] of merged(streams))
      yield event.type === 'start' ? event : { ...event, choice: index * asks[index]!.n + event.choice };
  } finally {
    // Where one prompt failed or the reader left, the others must not generate on.
    siblings.abort(new AppError('request_cancelled', 'The request ended'));
  }
}

/** Counts what usage reports, as the events pass. */
export class UsageCount {
  promptTokens = 0;
  cachedTokens = 0;
  completionTokens = 0;

  add(event: CompletionEvent): void {
    if (event.type === 'start') {
      this.promptTokens += event.promptTokens;
      this.cachedTokens += event.cachedTokens;
    } else if (event.type === 'finish') this.completionTokens += event.completionTokens;
  }

  get usage(): Schemas['Usage'] {
    return {
      prompt_tokens: this.promptTokens,
      completion_tokens: this.completionTokens,
      total_tokens: this.promptTokens + this.completionTokens,
      prompt_tokens_details: { cached_tokens: this.cachedTokens },
    };
  }
}

/** What one step added to a choice; the reason comes with its last text. */
export interface ChoiceUpdate {
  readonly choice: number;
  readonly text: string;
  readonly tokens: readonly TextToken[];
  readonly reason: FinishReason | null;
}

/** The updates of a batch of events, the end of a choice joined to the text that came with it. */
export function updatesOf(batch: readonly CompletionEvent[]): readonly ChoiceUpdate[] {
  const updates: ChoiceUpdate[] = [];
  for (const event of batch) {
    if (event.type === 'delta') updates.push({ ...event, reason: null });
    if (event.type !== 'finish') continue;
    const { choice, reason } = event;
    const at = updates.findLastIndex((update) => update.choice === choice);
    if (at === -1) updates.push({ choice, text: '', tokens: [], reason });
    else updates[at] = { ...updates[at]!, reason };
  }
  return updates;
}

export interface FoldedChoice {
  text: string;
  readonly tokens: TextToken[];
  reason: FinishReason;
}

/** All of a generation at once: choices by index, and the counts. */
export async function folded(batches: EventBatches): Promise<{
  readonly choices: readonly FoldedChoice[];
  readonly count: UsageCount;
}> {
  const choices = new Map<number, FoldedChoice>();
  const count = new UsageCount();
  for await (const batch of batches) {
    for (const event of batch) count.add(event);
    for (const { choice, text, tokens, reason } of updatesOf(batch)) {
      const entry = choices.get(choice) ?? { text: '', tokens: [], reason: 'stop' };
      choices.set(choice, entry);
      entry.text += text;
      for (const token of tokens) entry.tokens.push(token);
      if (reason !== null) entry.reason = reason;
    }
  }
  const inOrder = [...choices].sort(([left], [right]) => left - right);
  return { choices: inOrder.map(([, choice]) => choice), count };
}
