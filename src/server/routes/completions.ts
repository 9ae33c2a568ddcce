import { randomBytes } from 'node:crypto';
import { AppError } from '../../core/errors.js';
import type { TokenId } from '../../core/units.js';
import type { CompletionAsk, TextModel, TextToken } from '../../models/text-model.js';
import { assertMayFit } from '../context-limit.js';
import type { Handlers, Schemas, SocketHandlers } from '../contract.js';
import {
  type ChoiceUpdate,
  type EventBatches,
  folded,
  generate,
  UsageCount,
  updatesOf,
} from '../generation.js';
import { requestContext, type ServerParts } from '../parts.js';
import { knownTokens, samplingOf, stopsOf } from '../sampling.js';
import { chunkStreamEnding, type StreamEvent, sendEvents } from '../streaming/sse.js';
import { LaneSocket } from '../streaming/ws.js';

type Body = Schemas['CreateCompletionRequest'];

const DEFAULT_MAX_TOKENS = 16;

export function completionRoutes(
  parts: ServerParts,
): Pick<Handlers, 'createCompletion'> & Pick<SocketHandlers, 'connectCompletions'> {
  return {
    async createCompletion({ body, reply }) {
      const model = await parts.pool.text(body.model);
      const context = requestContext(parts, reply);
      const batches = await generate(model, asksOf(body, model), context);
      if (!body.stream) return wholeCompletion(body, batches);
      return sendEvents(reply, completionChunks(body, batches), {
        signal: context.signal,
        stallMs: parts.config.stallSeconds * 1000,
        ...chunkStreamEnding,
      });
    },
    connectCompletions(socket) {
      new LaneSocket(socket, parts, 'createCompletion', async (unchecked, context) => {
        const body = parts.contract.body('createCompletion', unchecked);
        const model = await parts.pool.text(body.model);
        return completionChunks(body, await generate(model, asksOf(body, model), context));
      });
    },
  };
}

/** One ask a prompt. Throws `invalid_value` for what the contract cannot say. */
function asksOf(body: Body, model: TextModel): CompletionAsk[] {
  const bestOf = body.best_of ?? body.n;
  if (bestOf < body.n)
    throw new AppError(
      'invalid_value',
      `'best_of' is ${bestOf}, but must be at least n, which is ${body.n}`,
      {
        param: 'best_of',
      },
    );
  if (body.stream && bestOf !== body.n)
    throw new AppError('invalid_value', "'best_of' cannot be above n in a stream", { param: 'best_of' });
  refuseIdleStreamOptions(body);
  const sampling = samplingOf(body, model.tokenizer);
  return promptsOf(body.prompt, model).map((prompt) => ({
    prompt,
    maxTokens:
      body.max_tokens ?? Math.min(DEFAULT_MAX_TOKENS, Math.max(1, model.contextLength - prompt.length)),
    sampling,
    n: body.n,
    bestOf,
    stop: stopsOf(body),
    includeStop: body.include_stop_str_in_output,
    ignoreEndOfText: body.ignore_eos,
    logprobs: body.logprobs ?? null,
    echo: body.echo,
  }));
}

export function refuseIdleStreamOptions({ stream, stream_options }: Schemas['Streaming']): void {
  if (stream_options !== undefined && !stream)
    throw new AppError('invalid_value', "'stream_options' is only for a request with stream: true", {
      param: 'stream_options',
    });
}

function promptsOf(prompt: Body['prompt'], model: TextModel): TokenId[][] {
  const { tokenizer } = model;
  const encode = (text: string | readonly number[], param: string): TokenId[] => {
    if (typeof text === 'string') assertMayFit(text, model, param);
    const ids =
      typeof text === 'string'
        ? tokenizer.withSpecialTokens(tokenizer.encode(text, 'as_text'))
        : knownTokens(text, tokenizer, param);
    if (ids.length > 0) return ids;
    throw new AppError('invalid_value', `'${param}' is empty, and this model needs at least one token`, {
      param,
    });
  };
  const isOne = (value: Body['prompt']): value is string | readonly number[] =>
    typeof value === 'string' || typeof value[0] === 'number';
  if (isOne(prompt)) return [encode(prompt, 'prompt')];
  return prompt.map((each, index) => encode(each, `prompt.${index}`));
}

const headOf = ({ model }: Body) =>
  ({
    id: `cmpl-${randomBytes(12).toString('hex')}`,
    object: 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model,
  }) as const;

async function wholeCompletion(body: Body, batches: EventBatches): Promise<Schemas['Completion']> {
  const { choices, count } = await folded(batches);
  return {
    ...headOf(body),
    choices: choices.map(({ text, tokens, reason }, index) => ({
      index,
      text,
      logprobs: body.logprobs === undefined ? null : logprobsOf(tokens),
      finish_reason: reason,
    })),
    usage: count.usage,
  };
}

/** Chunks as OpenAI frames them. What is the same in each is serialised once. */
async function* completionChunks(body: Body, batches: EventBatches): AsyncGenerator<readonly StreamEvent[]> {
  const withUsage = body.stream_options?.include_usage === true;
  const head = `${JSON.stringify(headOf(body)).slice(0, -1)},"choices":[`;
  const tail = withUsage ? '],"usage":null}' : ']}';
  const count = new UsageCount();
  for await (const batch of batches) {
    for (const event of batch) count.add(event);
    yield updatesOf(batch).map((update) => ({
      name: null,
      json: head + choiceJson(update, body.logprobs !== undefined) + tail,
    }));
  }
  if (withUsage) yield [{ name: null, json: `${head}],"usage":${JSON.stringify(count.usage)}}` }];
}

const choiceJson = ({ choice, text, tokens, reason }: ChoiceUpdate, withLogprobs: boolean): string => {
  const logprobs = withLogprobs ? JSON.stringify(logprobsOf(tokens)) : 'null';
  const finish = reason === null ? 'null' : `"${reason}"`;
  return `{"index":${choice},"text":${JSON.stringify(text)},"logprobs":${logprobs},"finish_reason":${finish}}`;
};

const logprobsOf = (tokens: readonly TextToken[]): Schemas['CompletionLogprobs'] => ({
  tokens: tokens.map(({ text }) => text),
  token_logprobs: tokens.map(({ logprob }) => logprob),
  top_logprobs: tokens.map(topLogprobs),
  text_offset: tokens.map(({ offset }) => offset),
});

/** Likeliest first; the chosen token is among them, as OpenAI has it. Of tokens with one text the likeliest counts. */
function topLogprobs({ logprob, text, top }: TextToken): Readonly<Record<string, number>> | null {
  if (logprob === null) return null;
  const byText = new Map<string, number>();
  for (const entry of [...top, { text, logprob }])
    if (!byText.has(entry.text)) byText.set(entry.text, entry.logprob);
  return Object.fromEntries(byText);
}
