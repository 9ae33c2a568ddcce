import { AppError } from '../core/errors.js';
import { CompletionChoice, type Piece } from './completion-choice.js';
import type { Engine, EngineStats, Generation, TokenEvent } from './engine/engine.js';
import type { CompletionAsk, CompletionEvent, TextModel } from './text-model.js';
import type { ChatTemplate, Tokenizer } from './tokenizer/tokenizer.js';

export interface TextModelParts {
  readonly id: string;
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
}

/** Token ids of an engine as text: decoding, stop strings, echo, best_of. */
export class EngineTextModel implements TextModel {
  readonly id: string;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
  readonly #engine: Engine;

  /** Takes the engine over: disposing of the model ends it. */
  constructor({ id, engine, tokenizer, chatTemplate }: TextModelParts) {
    this.id = id;
    this.#engine = engine;
    this.tokenizer = tokenizer;
    this.chatTemplate = chatTemplate;
  }

  get contextLength(): number {
    return this.#engine.options.contextLength;
  }

  get failure(): AppError | null {
    return this.#engine.failure;
  }

  async complete(ask: CompletionAsk, signal: AbortSignal): Promise<AsyncIterable<CompletionEvent>> {
    this.#validate(ask);
    const ranked = ask.bestOf > ask.n;
    const generation = this.#engine.generate(
      {
        prompt: ask.prompt,
        maxTokens: ask.maxTokens,
        sampling: ask.sampling,
        stopIds: ask.ignoreEndOfText ? new Set() : this.tokenizer.endOfText,
        // Ranking needs the log-probabilities of what was drawn, asked for or not.
        logprobs: ask.logprobs ?? (ranked ? 0 : null),
        promptLogprobs: ask.echo && ask.logprobs !== null,
        sequences: ask.bestOf,
      },
      signal,
    );
    const choices = Array.from({ length: ask.bestOf }, () => new CompletionChoice(ask, this.tokenizer));
    const events = streamChoices(ask, generation, choices);
    return ranked ? bestChoices(ask, events, choices) : events;
  }

  async stats(): Promise<EngineStats> {
    return this.#engine.stats();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine[Symbol.asyncDispose]();
  }

  #validate({ prompt, n, bestOf, sampling }: CompletionAsk): void {
    const { vocabularySize } = this.tokenizer;
    const foreign = prompt.find((id) => !Number.isSafeInteger(id) || id < 0 || id >= vocabularySize);
    if (foreign !== undefined) {
      throw new AppError(
        'invalid_value',
        `Token ${foreign} of the prompt is not in this model's vocabulary of ${vocabularySize}.`,
        { param: 'prompt' },
      );
    }
    for (const id of sampling.logitBias.keys()) {
      if (id >= 0 && id < vocabularySize) continue;
      throw new AppError(
        'invalid_value',
        `logit_bias names token ${id}, which is not in this model's vocabulary of ${vocabularySize}.`,
        { param: 'logit_bias' },
      );
    }
    if (bestOf >= n) return;
    throw new AppError('invalid_value', `best_of (${bestOf}) must be at least n (${n}).`, {
      param: 'best_of',
    });
  }
}

/** Events of all choices in the order in which their tokens come. */
async function* streamChoices(
  ask: CompletionAsk,
  generation: Generation,
  choices: readonly CompletionChoice[],
): AsyncGenerator<CompletionEvent> {
  /** Choices that a stop string ended; the engine may still send what it drew before it heard. */
  const stopped = new Set<number>();
  for await (const event of generation) {
    if (event.type === 'prompt') {
      yield { type: 'start', promptTokens: ask.prompt.length, cachedTokens: event.cachedTokens };
      if (ask.echo) yield* echo(ask, event, choices);
      continue;
    }
    if (stopped.has(event.sequence)) continue;
    const choice = choices[event.sequence] as CompletionChoice;
    const piece = event.type === 'token' ? choice.push(event) : choice.end();
    yield* delta(event.sequence, piece);
    if (piece.stop !== null) {
      stopped.add(event.sequence);
      if (event.type === 'token') generation.finish(event.sequence);
    }
    if (piece.stop === null && event.type === 'token') continue;
    yield {
      type: 'finish',
      choice: event.sequence,
      reason: event.type === 'token' || piece.stop !== null ? 'stop' : event.reason,
      stopString: piece.stop,
      completionTokens: choice.tokens,
    };
  }
}

function* echo(
  ask: CompletionAsk,
  { logprobs }: Extract<TokenEvent, { type: 'prompt' }>,
  choices: readonly CompletionChoice[],
): Generator<CompletionEvent> {
  for (const [index, choice] of choices.entries()) yield* delta(index, choice.echo(ask.prompt, logprobs));
}

function* delta(choice: number, { text, tokens }: Piece): Generator<CompletionEvent> {
  if (text !== '' || tokens.length > 0) yield { type: 'delta', choice, text, tokens };
}

/** Waits for all choices and gives those of highest mean log-probability, best first, each in one piece. */
async function* bestChoices(
  { n }: CompletionAsk,
  events: AsyncIterable<CompletionEvent>,
  choices: readonly CompletionChoice[],
): AsyncGenerator<CompletionEvent> {
  const pieces = choices.map((): { text: string; tokens: Piece['tokens'][number][] } => ({
    text: '',
    tokens: [],
  }));
  const finishes: Extract<CompletionEvent, { type: 'finish' }>[] = [];
  for await (const event of events) {
    if (event.type === 'start') yield event;
    else if (event.type === 'finish') finishes.push(event);
    else {
      const piece = pieces[event.choice] as (typeof pieces)[number];
      piece.text += event.text;
      piece.tokens.push(...event.tokens);
    }
  }
  const mean = ({ choice }: { choice: number }) => {
    const { logprobSum, tokens } = choices[choice] as CompletionChoice;
    return tokens === 0 ? Number.NEGATIVE_INFINITY : logprobSum / tokens;
  };
  // Two choices without a token tie; the lower index goes first.
  finishes.sort((a, b) => (mean(a) === mean(b) ? a.choice - b.choice : mean(b) - mean(a)));
  for (const [rank, finish] of finishes.slice(0, n).entries()) {
    yield* delta(rank, pieces[finish.choice] as Piece);
    yield { ...finish, choice: rank };
  }
}
