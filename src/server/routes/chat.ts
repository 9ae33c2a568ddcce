import { randomBytes } from 'node:crypto';
import { AppError } from '../../core/errors.js';
import type { CompletionAsk, TextModel, TextToken } from '../../models/text-model.js';
import type { Handlers, Schemas, SocketHandlers } from '../contract.js';
import { messagesOf, promptOf } from '../conversation.js';
import {
  type ChoiceUpdate,
  type EventBatches,
  folded,
  generate,
  UsageCount,
  updatesOf,
} from '../generation.js';
import { requestContext, type ServerParts } from '../parts.js';
import { samplingOf, stopsOf } from '../sampling.js';
import { chunkStreamEnding, type StreamEvent, sendEvents } from '../streaming/sse.js';
import { LaneSocket } from '../streaming/ws.js';
import { tokenLogprob } from '../token-logprobs.js';
import { refuseIdleStreamOptions } from './completions.js';

type Body = Schemas['CreateChatCompletionRequest'];

export function chatRoutes(
  parts: ServerParts,
): Pick<Handlers, 'createChatCompletion'> & Pick<SocketHandlers, 'connectChatCompletions'> {
  return {
    async createChatCompletion({ body, reply }) {
      const model = await parts.pool.text(body.model);
      const context = requestContext(parts, reply);
      const batches = await generate(model, [askOf(body, model)], context);
      if (!body.stream) return wholeChat(body, batches);
      return sendEvents(reply, chatChunks(body, batches), {
        signal: context.signal,
        stallMs: parts.config.stallSeconds * 1000,
        ...chunkStreamEnding,
      });
    },
    connectChatCompletions(socket) {
      new LaneSocket(socket, parts, 'createChatCompletion', async (unchecked, context) => {
        const body = parts.contract.body('createChatCompletion', unchecked);
        const model = await parts.pool.text(body.model);
        return chatChunks(body, await generate(model, [askOf(body, model)], context));
      });
    },
  };
}

function askOf(body: Body, model: TextModel): CompletionAsk {
  if (body.top_logprobs !== undefined && !body.logprobs)
    throw new AppError('invalid_value', "'top_logprobs' needs logprobs: true", { param: 'top_logprobs' });
  refuseIdleStreamOptions(body);
  const prompt = promptOf(model, messagesOf(body.messages), { addGenerationPrompt: true });
  return {
    prompt,
    maxTokens:
      body.max_completion_tokens ?? body.max_tokens ?? Math.max(1, model.contextLength - prompt.length),
    sampling: samplingOf(body, model.tokenizer),
    n: body.n,
    bestOf: body.n,
    stop: stopsOf(body),
    includeStop: body.include_stop_str_in_output,
    ignoreEndOfText: body.ignore_eos,
    logprobs: body.logprobs ? (body.top_logprobs ?? 0) : null,
    echo: false,
  };
}

const headOf = <Kind extends string>({ model }: Body, object: Kind) => ({
  id: `chatcmpl-${randomBytes(12).toString('hex')}`,
  object,
  created: Math.floor(Date.now() / 1000),
  model,
});

async function wholeChat(body: Body, batches: EventBatches): Promise<Schemas['ChatCompletion']> {
  const { choices, count } = await folded(batches);
  return {
    ...headOf(body, 'chat.completion' as const),
    choices: choices.map(({ text, tokens, reason }, index) => ({
      index,
      message: { role: 'assistant', content: text, refusal: null },
      logprobs: body.logprobs ? chatLogprobs(tokens) : null,
      finish_reason: reason,
    })),
    usage: count.usage,
  };
}

async function* chatChunks(body: Body, batches: EventBatches): AsyncGenerator<readonly StreamEvent[]> {
  const withUsage = body.stream_options?.include_usage === true;
  const head = `${JSON.stringify(headOf(body, 'chat.completion.chunk')).slice(0, -1)},"choices":[`;
  const tail = withUsage ? '],"usage":null}' : ']}';
  const chunk = (choice: string): StreamEvent => ({ name: null, json: head + choice + tail });
  const count = new UsageCount();
  yield Array.from({ length: body.n }, (_, index) =>
    chunk(`{"index":${index},"delta":{"role":"assistant","content":null},"finish_reason":null}`),
  );
  for await (const batch of batches) {
    for (const event of batch) count.add(event);
    yield updatesOf(batch).flatMap((update) => choicesJson(update, body.logprobs).map(chunk));
  }
  if (withUsage) yield [{ name: null, json: `${head}],"usage":${JSON.stringify(count.usage)}}` }];
}

/** The text, and the end of a choice as a chunk of its own with an empty delta. */
function choicesJson({ choice, text, tokens, reason }: ChoiceUpdate, withLogprobs: boolean): string[] {
  const choices: string[] = [];
  const logprobs = withLogprobs ? `,"logprobs":${JSON.stringify(chatLogprobs(tokens))}` : '';
  if (text !== '' || tokens.length > 0)
    choices.push(
      `{"index":${choice},"delta":{"content":${JSON.stringify(text)}}${logprobs},"finish_reason":null}`,
    );
  if (reason !== null) choices.push(`{"index":${choice},"delta":{},"finish_reason":"${reason}"}`);
  return choices;
}

const chatLogprobs = (tokens: readonly TextToken[]): Schemas['ChatLogprobs'] => ({
  content: tokens.map(tokenLogprob),
  refusal: null,
});
