import { Rng } from '../../core/rng.js';
import { type TokenId, tokenId } from '../../core/units.js';
import type { RolloutDecoder } from './rollout-decoder.js';
import { drawToken, type TokenDraw } from './token-draw.js';

/** A prompt and what the policy answered. */
export interface Episode {
  /** From 0 over the whole run: names the stream of random numbers that it was drawn with. */
  readonly index: number;
  readonly prompt: readonly TokenId[];
  /** With the stop token where one was drawn. */
  readonly response: readonly TokenId[];
  /** Nats, of the policy as it sampled: at the sampling temperature, from the sampler's own logits. One a response token. */
  readonly logprobs: Float32Array;
  /** Mean over the response's tokens of the policy's entropy, nats. */
  readonly entropy: number;
  /** Whether a stop token ends it. */
  readonly isEnded: boolean;
}

export interface RolloutOptions {
  /** Response tokens at most. */
  readonly maxTokens: number;
  readonly temperature: number;
  /** Tokens that end a response; empty: every response has maxTokens tokens. */
  readonly stopIds: ReadonlySet<TokenId>;
  readonly seed: number;
}

/** A row under way. */
interface Row {
  readonly rng: Rng;
  readonly response: TokenId[];
  readonly logprobs: number[];
  entropy: number;
  isEnded: boolean;
}

/**
 * One response to each prompt. Episode i draws from stream i of the seed, so that a response depends on the weights, the prompt and i
 * alone, not on how prompts are split into batches.
 * @param firstIndex of the first prompt's episode
 * @returns null where the policy's logits are no distribution (a NaN, an infinity)
 */
export function rollOut(
  decoder: RolloutDecoder,
  prompts: readonly (readonly TokenId[])[],
  firstIndex: number,
  options: RolloutOptions,
): Episode[] | null {
  const { maxTokens, temperature, stopIds, seed } = options;
  const rows = prompts.map(
    (_, at): Row => ({
      rng: new Rng(seed, firstIndex + at),
      response: [],
      logprobs: [],
      entropy: 0,
      isEnded: false,
    }),
  );
  const tokens = new Int32Array(prompts.length);
  const positions = Int32Array.from(prompts, ({ length }) => length - 1);
  let logits = decoder.prefill(prompts);
  for (let t = 0; t < maxTokens; t++) {
    for (const [at, row] of rows.entries()) {
      // An ended row goes on at its last position, for nothing, until all have ended.
      if (row.isEnded) continue;
      const own = logits.subarray(at * decoder.vocabulary, (at + 1) * decoder.vocabulary);
      const drawn = drawToken(own, temperature, row.rng);
      if (drawn === null) return null;
      extend(row, drawn, stopIds);
      tokens[at] = row.response.at(-1)!;
      positions[at]!++;
    }
    if (t + 1 === maxTokens || rows.every(({ isEnded }) => isEnded)) break;
    logits = decoder.decode(tokens, positions);
  }
  return rows.map(({ response, logprobs, entropy, isEnded }, at) => ({
    index: firstIndex + at,
    prompt: prompts[at]!,
    response,
    logprobs: Float32Array.from(logprobs),
    entropy: entropy / response.length,
    isEnded,
  }));
}

function extend(row: Row, { id, logprob, entropy }: TokenDraw, stopIds: ReadonlySet<TokenId>): void {
  row.response.push(tokenId(id));
  row.logprobs.push(logprob);
  row.entropy += entropy;
  row.isEnded = stopIds.has(tokenId(id));
}
