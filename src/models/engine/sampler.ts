import { AppError } from '../../core/errors.js';
import type { Rng } from '../../core/rng.js';
import { type Nats, nats, type TokenId, tokenId } from '../../core/units.js';
import type { SamplingOptions, TokenLogprob } from './engine.js';
import { LogitAdjustments, type TokenHistory } from './logit-adjustments.js';
import { BLOCK, exponential, maximum, sumOfExponentials } from './softmax.js';
import { TopCandidates } from './top-candidates.js';

export interface Drawn {
  readonly id: TokenId;
  readonly logprob: Nats | null;
  readonly top: readonly TokenLogprob[];
}

/** A truncation keeps the entries at or above this one, by value, then by lower index. */
interface Cutoff {
  value: number;
  id: number;
}

/** Buckets of a nat's 1/32 that order a row by probability without sorting it; the last one takes the far tail. */
const BUCKETS = 2048;
const BUCKETS_A_NAT = 32;

/** Candidates tried for a nucleus before the whole row is looked at. */
const NUCLEUS_SIZES = [64, 1024];

/** The most likely token and nothing else applied. */
export const greedySampling: SamplingOptions = Object.freeze({
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: new Map(),
  seed: 0n,
  minTokens: 0,
});

/**
 * Draws one token of a row of logits; the order is SamplingOptions'. A draw takes exactly one uniform number and inverts the cumulative
 * distribution in the order of token ids, so a token depends on its own row, seed and position alone.
 */
export class Sampler {
  readonly #adjustments = new LogitAdjustments();
  readonly #candidates = new TopCandidates();
  readonly #blockSums: Float64Array;
  readonly #buckets = new Float64Array(BUCKETS);
  readonly #keptIds: Int32Array;
  readonly #keptWeights: Float64Array;

  constructor(vocabularySize: number) {
    this.#blockSums = new Float64Array(Math.ceil(vocabularySize / BLOCK));
    this.#keptIds = new Int32Array(vocabularySize);
    this.#keptWeights = new Float64Array(vocabularySize);
  }

  /**
   * @param row      float32 [vocabulary]; changed during the call and given back as it was.
   * @param logprobs How many most likely tokens to report beside the drawn one; null reports nothing.
   * Throws `runtime_failed` where the row is no distribution.
   */
  draw(
    row: Float32Array,
    options: SamplingOptions,
    history: TokenHistory,
    rng: Rng,
    logprobs: number | null,
  ): Drawn {
    const id = LogitAdjustments.needed(options, history)
      ? this.#pickAdjusted(row, options, history, rng)
      : this.#pick(row, options, rng);
    return logprobs === null ? { id, logprob: null, top: [] } : { id, ...this.score(row, id, logprobs) };
  }

  /** The log-probability of one token under the raw row, and those of the `top` most likely. */
  score(row: Float32Array, id: TokenId, top: number): { logprob: Nats; top: TokenLogprob[] } {
    const largest = largestOf(row);
    const normaliser = largest + Math.log(sumOfExponentials(row, largest, 1, this.#blockSums));
    this.#candidates.select(row, top);
    const ranked = Array.from({ length: this.#candidates.size }, (_, rank) => ({
      id: tokenId(this.#candidates.id(rank)),
      logprob: nats(this.#candidates.value(rank) - normaliser),
    }));
    return { logprob: nats((row[id] as number) - normaliser), top: ranked };
  }

  #pickAdjusted(row: Float32Array, options: SamplingOptions, history: TokenHistory, rng: Rng): TokenId {
    this.#adjustments.apply(row, options, history);
    try {
      return this.#pick(row, options, rng);
    } finally {
      this.#adjustments.undo(row);
    }
  }

  #pick(row: Float32Array, options: SamplingOptions, rng: Rng): TokenId {
    const largest = largestOf(row);
    if (options.temperature === 0) return tokenId(row.indexOf(largest));
    const inverse = 1 / options.temperature;
    // So cold that only the largest entries have mass: float64 would overflow to NaN.
    if (!Number.isFinite(inverse)) return tokenId(row.indexOf(largest));
    const cutoff = this.#cutoff(row, options, largest, inverse);
    if (cutoff === null) return this.#drawFromRow(row, largest, inverse, rng);
    return this.#drawAbove(row, cutoff, largest, inverse, rng);
  }

  /** Where top_k, top_p and min_p cut the row; null where nothing is cut. */
  #cutoff(row: Float32Array, options: SamplingOptions, largest: number, inverse: number): Cutoff | null {
    const { topK, topP, minP } = options;
    let cutoff: Cutoff | null = null;
    if (topK > 0 && topK < row.length) cutoff = this.#cutTopK(row, topK, topP, largest, inverse);
    else if (topP < 1) cutoff = this.#cutTopP(row, topP, largest, inverse);
    if (minP <= 0) return cutoff;
    const lowest = largest + Math.log(minP) / inverse;
    if (cutoff === null || lowest > cutoff.value) return { value: lowest, id: row.length };
    return cutoff;
  }

  /** The k best, then the smallest set of them that holds top_p of their mass. */
  #cutTopK(row: Float32Array, k: number, topP: number, largest: number, inverse: number): Cutoff {
    const ranked = this.#candidates;
    ranked.select(row, k);
    let total = 0;
    for (let rank = 0; rank < k; rank++) total += exponential((ranked.value(rank) - largest) * inverse);
    let last = 0;
    let mass = exponential((ranked.value(0) - largest) * inverse);
    while (last + 1 < k && (topP >= 1 || mass < topP * total)) {
      last++;
      mass += exponential((ranked.value(last) - largest) * inverse);
    }
    return { value: ranked.value(last), id: ranked.id(last) };
  }

  /** The smallest set that holds top_p of the mass: nearly always among a few of the best, whatever the vocabulary. */
  #cutTopP(row: Float32Array, topP: number, largest: number, inverse: number): Cutoff {
    const ranked = this.#candidates;
    const wanted = topP * sumOfExponentials(row, largest, inverse, this.#blockSums);
    for (const few of NUCLEUS_SIZES) {
      ranked.select(row, few);
      let mass = 0;
      for (let rank = 0; rank < ranked.size; rank++) {
        mass += exponential((ranked.value(rank) - largest) * inverse);
        if (mass >= wanted) return { value: ranked.value(rank), id: ranked.id(rank) };
      }
    }
    return this.#cutFlat(row, topP, largest, inverse);
  }

  /** The same for a flat distribution, without sorting it: whole buckets from the top, then the bucket on the border by rank. */
  #cutFlat(row: Float32Array, topP: number, largest: number, inverse: number): Cutoff {
    const wanted = topP * this.#fillBuckets(row, largest, inverse);
    let border = 0;
    let above = 0;
    while (border < BUCKETS - 1 && above + (this.#buckets[border] as number) < wanted) {
      above += this.#buckets[border] as number;
      border++;
    }
    const members: number[] = [];
    for (let id = 0; id < row.length; id++) {
      if (bucketOf(((row[id] as number) - largest) * inverse) === border) members.push(id);
    }
    members.sort((a, b) => (row[b] as number) - (row[a] as number) || a - b);
    let last = 0;
    let mass = above + exponential(((row[members[0] as number] as number) - largest) * inverse);
    while (last + 1 < members.length && mass < wanted) {
      last++;
      mass += exponential(((row[members[last] as number] as number) - largest) * inverse);
    }
    const id = members[last] as number;
    return { value: row[id] as number, id };
  }

  #fillBuckets(row: Float32Array, largest: number, inverse: number): number {
    const buckets = this.#buckets.fill(0);
    let total = 0;
    for (let id = 0; id < row.length; id++) {
      const x = ((row[id] as number) - largest) * inverse;
      const weight = exponential(x);
      const bucket = bucketOf(x);
      buckets[bucket] = (buckets[bucket] as number) + weight;
      total += weight;
    }
    return total;
  }

  #drawFromRow(row: Float32Array, largest: number, inverse: number, rng: Rng): TokenId {
    const sums = this.#blockSums;
    let rest = rng.uniform() * sumOfExponentials(row, largest, inverse, sums);
    let block = 0;
    let lastBlock = 0;
    for (; block * BLOCK < row.length; block++) {
      const sum = sums[block] as number;
      if (sum > 0) lastBlock = block;
      if (rest < sum) break;
      rest -= sum;
    }
    // Rounding may walk past the end: then it is the last entry that has mass.
    const start = Math.min(block, lastBlock) * BLOCK;
    let chosen = start;
    for (let id = start; id < Math.min(start + BLOCK, row.length); id++) {
      const weight = exponential(((row[id] as number) - largest) * inverse);
      if (weight > 0) chosen = id;
      if (rest < weight) break;
      rest -= weight;
    }
    return tokenId(chosen);
  }

  #drawAbove(row: Float32Array, cutoff: Cutoff, largest: number, inverse: number, rng: Rng): TokenId {
    const ids = this.#keptIds;
    const weights = this.#keptWeights;
    let kept = 0;
    let total = 0;
    for (let id = 0; id < row.length; id++) {
      const value = row[id] as number;
      if (value < cutoff.value || (value === cutoff.value && id > cutoff.id)) continue;
      const weight = exponential((value - largest) * inverse);
      ids[kept] = id;
      weights[kept++] = weight;
      total += weight;
    }
    let rest = rng.uniform() * total;
    let chosen = 0;
    for (let i = 0; i < kept; i++) {
      const weight = weights[i] as number;
      if (weight > 0) chosen = i;
      if (rest < weight) break;
      rest -= weight;
    }
    return tokenId(ids[chosen] as number);
  }
}

/** @param x (logit - largest) / temperature, so <= 0. */
function bucketOf(x: number): number {
  const bucket = -x * BUCKETS_A_NAT;
  return bucket < BUCKETS ? bucket | 0 : BUCKETS - 1;
}

function largestOf(row: Float32Array): number {
  const largest = maximum(row);
  if (largest !== null) return largest;
  const at = row.findIndex((logit) => Number.isNaN(logit) || logit === Number.POSITIVE_INFINITY);
  const what = at < 0 ? 'no logit is finite' : `the logit of token ${at} is ${row[at]}`;
  throw new AppError(
    'runtime_failed',
    `The model's logits are no distribution: ${what}; check the checkpoint's weights and its quantization.`,
  );
}
