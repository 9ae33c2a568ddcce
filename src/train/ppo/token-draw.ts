import type { Rng } from '../../core/rng.js';
import { BLOCK, exponential, maximum } from '../../models/engine/softmax.js';

export interface TokenDraw {
  readonly id: number;
  /** Of the distribution that it was drawn from, at its temperature. */
  readonly logprob: number;
  /** Of that distribution: log sum exp(z) - sum p z. */
  readonly entropy: number;
}

/**
 * Draws a token from softmax(row / temperature), with what PPO needs to know of the distribution, in one pass over the row. One uniform
 * number a draw, inverted in the order of token ids; float64 throughout.
 * @param temperature over 0
 * @returns null where the row is no distribution (a NaN, an infinity)
 */
export function drawToken(row: Float32Array, temperature: number, rng: Rng): TokenDraw | null {
  const largest = maximum(row);
  if (largest === null) return null;
  const inverse = 1 / temperature;
  const sums = new Float64Array(Math.ceil(row.length / BLOCK));
  let total = 0;
  let weighted = 0;
  for (let start = 0, block = 0; start < row.length; start += BLOCK, block++) {
    const end = Math.min(start + BLOCK, row.length);
    let sum = 0;
    for (let id = start; id < end; id++) {
      const x = (row[id]! - largest) * inverse;
      const weight = exponential(x);
      sum += weight;
      weighted += weight * x;
    }
    sums[block] = sum;
    total += sum;
  }
  const id = invert(row, largest, inverse, sums, rng.uniform() * total);
  const normaliser = Math.log(total);
  return {
    id,
    logprob: (row[id]! - largest) * inverse - normaliser,
    entropy: normaliser - weighted / total,
  };
}

/** The token at which the cumulative sum of weights passes `mass`; where rounding walks past the end, the last one that has weight. */
function invert(
  row: Float32Array,
  largest: number,
  inverse: number,
  sums: Float64Array,
  mass: number,
): number {
  let rest = mass;
  let block = 0;
  while (block < sums.length - 1 && rest >= sums[block]!) rest -= sums[block++]!;
  let chosen = -1;
  const end = Math.min((block + 1) * BLOCK, row.length);
  for (let id = block * BLOCK; id < end; id++) {
    const weight = exponential((row[id]! - largest) * inverse);
    if (weight > 0) chosen = id;
    if (rest < weight) return id;
    rest -= weight;
  }
  return chosen >= 0 ? chosen : row.indexOf(largest);
}
