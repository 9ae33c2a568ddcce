import { AppError } from '../../core/errors.js';
import type { CompletionAsk, TextModel } from '../../models/text-model.js';
import type { ChatMessage } from '../../models/tokenizer/tokenizer.js';
import type { Handlers, Schemas, SocketHandlers } from '../contract.js';
import { messagesOf, promptOf, textOf } from '../conversation.js';
import { type GenerationContext, generate } from '../generation.js';
import { requestContext, type ServerParts } from '../parts.js';
import {
  errorEvent,
  type NumberedBatches,
  type NumberedEvent,
  openResponse,
  type ResponseEvent,
  responseEvents,
} from '../response-events.js';
import { ResponseStore } from '../response-store.js';
import { samplingOf, stopsOf } from '../sampling.js';
import { ResponseSocket } from '../streaming/response-socket.js';
import { type StreamEvent, sendEvents } from '../streaming/sse.js';
import { refuseIdleStreamOptions } from './completions.js';

type Body = Schemas['CreateResponseRequest'];
/** A body that says which model. */
type NamedBody = Body & { readonly model: string };

const STORED = { entries: 1024, characters: 2 ** 25 };
const LOGPROBS = 'message.output_text.logprobs';

export function responseRoutes(
  parts: ServerParts,
): Pick<Handlers, 'createResponse' | 'getResponse' | 'deleteResponse'> &
  Pick<SocketHandlers, 'connectResponses'> {
  const store = new ResponseStore(STORED);
  const start = (body: Body, context: GenerationContext) => startResponse(parts, store, body, context);
  return {
    async createResponse({ body, reply }) {
      refuseIdleStreamOptions(body);
      const context = requestContext(parts, reply);
      const events = await start(body, context);
      if (!body.stream) return lastResponse(events);
      return sendEvents(reply, named(events), {
        signal: context.signal,
        stallMs: parts.config.stallSeconds * 1000,
        failure: (error) => ({ name: 'error', json: JSON.stringify(errorEvent(error)) }),
        end: '',
      });
    },
    async getResponse({ path }) {
      return store.get(path.id, 'id').response;
    },
    async deleteResponse({ path }) {
      store.delete(path.id);
      return { id: path.id, object: 'response', deleted: true };
    },
    connectResponses(socket) {
      new ResponseSocket(socket, parts, start);
    },
  };
}

async function startResponse(
  parts: ServerParts,
  store: ResponseStore,
  body: Body,
  context: GenerationContext,
): Promise<NumberedBatches> {
  const history =
    body.previous_response_id === undefined
      ? []
      : store.get(body.previous_response_id, 'previous_response_id').messages;
  const messages = [...history, ...inputOf(body)];
  const named: NamedBody = { ...body, model: body.model ?? (await defaultModel(parts)) };
  const model = await parts.pool.text(named.model);
  const batches = await generate(model, [askOf(body, messages, model)], context);
  const response = openResponse(named);
  return stored(responseEvents(response, batches, withLogprobs(body)), (closed) => {
    if (body.store) store.put({ response: closed, messages: [...messages, answerOf(closed)] });
  });
}

/** OpenAI's contract lets a response leave its model open. Throws `missing_required_parameter` where several could be meant. */
async function defaultModel({ config, pool }: ServerParts): Promise<string> {
  const models = (await pool.list()).filter(({ kind }) => kind === 'language').map(({ id }) => id);
  const preloaded = config.models.preload.find((id) => models.includes(id));
  if (preloaded !== undefined) return preloaded;
  if (models.length === 1) return models[0]!;
  throw new AppError(
    'missing_required_parameter',
    `'model' is required where there is not one language model alone; there are ${models.length}: ${models.join(', ')}`,
    { param: 'model' },
  );
}

/** Numbers the events, and hands on the finished response before its last event is out: a client may continue it at once. */
async function* stored(
  batches: AsyncIterable<readonly ResponseEvent[]>,
  keep: (response: Schemas['Response']) => void,
): AsyncGenerator<readonly NumberedEvent[]> {
  let sequence = 0;
  for await (const batch of batches) {
    const last = batch.at(-1);
    if (last?.type === 'response.completed' || last?.type === 'response.incomplete')
      keep(last.response as Schemas['Response']);
    yield batch.map((event) => ({ ...event, sequence_number: sequence++ }));
  }
}

const withLogprobs = ({ include }: Body): boolean => include?.includes(LOGPROBS) === true;

function askOf(body: Body, messages: readonly ChatMessage[], model: TextModel): CompletionAsk {
  if (body.top_logprobs !== undefined && body.top_logprobs > 0 && !withLogprobs(body))
    throw new AppError('invalid_value', `'top_logprobs' needs include: ["${LOGPROBS}"]`, {
      param: 'top_logprobs',
    });
  const instructions =
    body.instructions === undefined ? [] : [{ role: 'system', content: body.instructions }];
  const prompt = promptOf(model, [...instructions, ...messages], { addGenerationPrompt: true }, 'input');
  return {
    prompt,
    maxTokens: body.max_output_tokens ?? Math.max(1, model.contextLength - prompt.length),
    sampling: samplingOf(body, model.tokenizer),
    n: 1,
    bestOf: 1,
    stop: stopsOf(body),
    includeStop: body.include_stop_str_in_output,
    ignoreEndOfText: body.ignore_eos,
    logprobs: withLogprobs(body) ? (body.top_logprobs ?? 0) : null,
    echo: false,
  };
}

const inputOf = ({ input = [] }: Body): ChatMessage[] =>
  typeof input === 'string'
    ? [{ role: 'user', content: input }]
    : messagesOf(input.map(({ role, content }) => ({ role, content })));

const answerOf = ({ output }: Schemas['Response']): ChatMessage => ({
  role: 'assistant',
  content: textOf(output.flatMap(({ content }) => content)),
});

async function lastResponse(batches: NumberedBatches): Promise<Schemas['Response']> {
  let last: NumberedEvent | undefined;
  for await (const batch of batches) last = batch.at(-1) ?? last;
  return last?.response as Schemas['Response'];
}

async function* named(batches: NumberedBatches): AsyncGenerator<readonly StreamEvent[]> {
  for await (const batch of batches)
    yield batch.map((event) => ({ name: event.type, json: JSON.stringify(event) }));
}
