/** The checks of verify-directory.ts that come as texts: reference.json of a real model with its tokenizer. */
import { isDeepStrictEqual } from 'node:util';
import { type TokenId, tokenId } from '../../core/units.js';
import type { Runtime } from '../runtime/session.js';
import { type LoadedTokenizer, loadTokenizer } from '../tokenizer/load-tokenizer.js';
import type { ChatMessage } from '../tokenizer/tokenizer.js';
import { DecoderPass, decodeGreedily, logSumExp } from '../transformer/decoder-pass.js';
import { checked, type OpenForCheck, type Verdict } from './verdict.js';

interface TextReference {
  readonly tokenize?: readonly { readonly text: string; readonly ids: readonly number[] }[];
  readonly chat?: readonly {
    readonly messages: readonly ChatMessage[];
    readonly prompt: string;
    readonly prompt_ids: readonly number[];
    readonly greedy_ids: readonly number[];
    readonly greedy_text: string;
    readonly first_token_top5: readonly { readonly id: number; readonly logprob: number }[];
  }[];
  readonly loglikelihood?: readonly {
    readonly context_ids: readonly number[];
    readonly continuation_ids: readonly number[];
    readonly token_logprobs: readonly number[];
    readonly sum: number;
  }[];
}

/** Nats. The reference is rounded to 1e-5. */
const LOGPROB_BOUND = 1e-3;

interface TextCheck {
  readonly directory: string;
  readonly reference: TextReference;
  readonly runtime: Runtime;
  readonly open: OpenForCheck;
}

export async function* verifyTexts({
  directory,
  reference,
  runtime,
  open,
}: TextCheck): AsyncGenerator<Verdict> {
  const loaded = await loadTokenizer(directory);
  if (loaded === null) {
    yield {
      kind: 'unchecked',
      quantity: 'texts and chat prompts',
      reason: 'the directory has no tokenizer.json',
    };
  } else yield* verifyTokenizer(loaded, reference);
  const { chat = [], loglikelihood = [] } = reference;
  const longest = Math.max(
    1,
    ...chat.map(({ prompt_ids, greedy_ids }) => prompt_ids.length + greedy_ids.length),
    ...loglikelihood.map(({ context_ids, continuation_ids }) => context_ids.length + continuation_ids.length),
  );
  using decoder = open(directory, longest);
  using pass = new DecoderPass(runtime, decoder, 1, longest);
  yield* verifyChat(pass, chat, loaded);
  yield* verifyLikelihoods(pass, loglikelihood);
}

const count = <T>(list: readonly T[], differs: (item: T) => boolean): number => list.filter(differs).length;

function* verifyTokenizer(
  { tokenizer, chatTemplate }: LoadedTokenizer,
  reference: TextReference,
): Generator<Verdict> {
  const { tokenize = [], chat = [] } = reference;
  const encodes = ({ text, ids }: { text: string; ids: readonly number[] }): boolean =>
    isDeepStrictEqual(tokenizer.encode(text, 'parse').map(Number), ids);
  yield checked(
    'texts whose token ids differ',
    count(tokenize, (item) => !encodes(item)),
    0,
  );
  if (chatTemplate === null) return;
  const options = { addGenerationPrompt: true };
  yield checked(
    'chat prompts whose text differs',
    count(chat, ({ messages, prompt }) => chatTemplate.render(messages, options) !== prompt),
    0,
  );
  yield checked(
    'chat prompts whose token ids differ',
    count(
      chat,
      ({ messages, prompt_ids }) =>
        !isDeepStrictEqual(chatTemplate.encode(messages, options).map(Number), prompt_ids),
    ),
    0,
  );
}

function* verifyChat(
  pass: DecoderPass,
  chat: NonNullable<TextReference['chat']>,
  loaded: LoadedTokenizer | null,
): Generator<Verdict> {
  let logprobError = 0;
  let idsDiffer = 0;
  let textsDiffer = 0;
  for (const { prompt_ids, greedy_ids, greedy_text, first_token_top5 } of chat) {
    const logits = pass.run([prompt_ids], 0, [{ row: 0, position: prompt_ids.length - 1 }]);
    const total = logSumExp(logits);
    for (const { id, logprob } of first_token_top5) {
      logprobError = Math.max(logprobError, Math.abs((logits[id] ?? Number.NaN) - total - logprob));
    }
    const ids = decodeGreedily(pass, prompt_ids, greedy_ids.length);
    idsDiffer += count([...greedy_ids.entries()], ([at, id]) => ids[at] !== id);
    const text = loaded?.tokenizer.decode(ids.map((id): TokenId => tokenId(id)));
    if (text !== undefined && text !== greedy_text) textsDiffer++;
  }
  yield checked("first token's top log-probabilities", logprobError, LOGPROB_BOUND);
  yield checked('greedy ids that differ', idsDiffer, 0);
  if (loaded !== null) yield checked('greedy texts that differ', textsDiffer, 0);
}

function* verifyLikelihoods(
  pass: DecoderPass,
  cases: NonNullable<TextReference['loglikelihood']>,
): Generator<Verdict> {
  let tokenError = 0;
  let sumError = 0;
  for (const { context_ids, continuation_ids, token_logprobs, sum } of cases) {
    const ids = [...context_ids, ...continuation_ids];
    // The logits at a position score the token after it.
    const places = continuation_ids.map((_, at) => ({ row: 0, position: context_ids.length - 1 + at }));
    const logits = pass.run([ids], 0, places);
    const width = logits.length / places.length;
    const logprobs = continuation_ids.map((id, at) => {
      const row = logits.subarray(at * width, (at + 1) * width);
      return (row[id] ?? Number.NaN) - logSumExp(row);
    });
    for (const [at, logprob] of token_logprobs.entries()) {
      tokenError = Math.max(tokenError, Math.abs((logprobs[at] ?? Number.NaN) - logprob));
    }
    sumError = Math.max(sumError, Math.abs(logprobs.reduce((a, b) => a + b, 0) - sum));
  }
  yield checked("continuations' token log-probabilities", tokenError, LOGPROB_BOUND);
  yield checked("continuations' log-likelihood sums", sumError, LOGPROB_BOUND);
}
