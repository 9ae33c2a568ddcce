import { randomBytes } from 'node:crypto';
import type { FinishReason } from '../models/engine/engine.js';
import type { TextToken } from '../models/text-model.js';
import type { Schemas } from './contract.js';
import { type EventBatches, UsageCount, updatesOf } from './generation.js';
import { errorBody, statusOf, toProblem } from './problem.js';
import { tokenLogprob } from './token-logprobs.js';

/** A generation as the events of OpenAI's Responses API, in their documented order. The JSON answer is the response of the last one. */

type Body = Schemas['CreateResponseRequest'];
type Response = Schemas['Response'];
type Message = Schemas['ResponseMessage'];

export interface ResponseEvent {
  readonly type: Schemas['ResponseEvent']['type'];
  readonly [field: string]: unknown;
}

export type NumberedEvent = ResponseEvent & { readonly sequence_number: number };
export type NumberedBatches = AsyncIterable<readonly NumberedEvent[]>;

const now = (): number => Math.floor(Date.now() / 1000);
const freshId = (prefix: string): string => `${prefix}_${randomBytes(16).toString('hex')}`;

/** The response before its first token. */
export const openResponse = (body: Body & { readonly model: string }): Response => ({
  id: freshId('resp'),
  object: 'response',
  created_at: now(),
  completed_at: null,
  status: 'in_progress',
  error: null,
  incomplete_details: null,
  instructions: body.instructions ?? null,
  max_output_tokens: body.max_output_tokens ?? null,
  metadata: body.metadata ?? {},
  model: body.model,
  output: [],
  parallel_tool_calls: body.parallel_tool_calls ?? true,
  previous_response_id: body.previous_response_id ?? null,
  store: body.store,
  temperature: body.temperature,
  text: { format: { type: 'text' } },
  tool_choice: 'auto',
  tools: [],
  top_p: body.top_p,
  truncation: 'disabled',
  usage: null,
});

const closeResponse = (
  response: Response,
  message: Message,
  reason: FinishReason,
  count: UsageCount,
): Response => ({
  ...response,
  status: reason === 'length' ? 'incomplete' : 'completed',
  completed_at: reason === 'length' ? null : now(),
  incomplete_details: reason === 'length' ? { reason: 'max_output_tokens' } : null,
  output: [message],
  usage: {
    input_tokens: count.promptTokens,
    input_tokens_details: { cached_tokens: count.cachedTokens, cache_write_tokens: 0 },
    output_tokens: count.completionTokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: count.promptTokens + count.completionTokens,
  },
});

const textPart = (text: string, logprobs: Message['content'][number]['logprobs']) =>
  ({ type: 'output_text', text, annotations: [], logprobs }) as const;

const closingEvents = (at: object, item: Message, response: Response): readonly ResponseEvent[] => {
  const part = item.content[0]!;
  return [
    { type: 'response.output_text.done', ...at, text: part.text, logprobs: part.logprobs },
    { type: 'response.content_part.done', ...at, part },
    { type: 'response.output_item.done', output_index: 0, item },
    { type: response.status === 'incomplete' ? 'response.incomplete' : 'response.completed', response },
  ];
};

/**
 * @param response What `openResponse` made.
 * @param withLogprobs Whether deltas and the text carry log-probabilities.
 */
export async function* responseEvents(
  response: Response,
  batches: EventBatches,
  withLogprobs: boolean,
): AsyncGenerator<readonly ResponseEvent[]> {
  const id = freshId('msg');
  const at = { item_id: id, output_index: 0, content_index: 0 };
  const message = (status: Message['status'], content: Message['content']): Message => ({
    id,
    type: 'message',
    role: 'assistant',
    status,
    content,
  });
  const logprobsOf = (tokens: readonly TextToken[]) => (withLogprobs ? tokens.map(tokenLogprob) : []);
  yield [
    { type: 'response.created', response },
    { type: 'response.in_progress', response },
    { type: 'response.output_item.added', output_index: 0, item: message('in_progress', []) },
    { type: 'response.content_part.added', ...at, part: textPart('', []) },
  ];
  const count = new UsageCount();
  const tokens: TextToken[] = [];
  let text = '';
  let reason: FinishReason = 'stop';
  for await (const batch of batches) {
    for (const event of batch) count.add(event);
    const updates = updatesOf(batch);
    for (const update of updates) {
      text += update.text;
      if (withLogprobs) tokens.push(...update.tokens);
      reason = update.reason ?? reason;
    }
    yield updates
      .filter((update) => update.text !== '')
      .map((update) => ({
        type: 'response.output_text.delta',
        ...at,
        delta: update.text,
        logprobs: logprobsOf(update.tokens),
      }));
  }
  const part = textPart(text, logprobsOf(tokens));
  const done = message(reason === 'length' ? 'incomplete' : 'completed', [part]);
  yield closingEvents(at, done, closeResponse(response, done, reason, count));
}

/** The SDK reads the top-level fields; `error` and `status` are what OpenAI's own sockets send beside them. */
export function errorEvent(thrown: unknown): object {
  const problem = toProblem(thrown);
  const { error } = errorBody(problem);
  const { code, message, param } = error;
  return { type: 'error', sequence_number: 0, code, message, param, status: statusOf(problem), error };
}
