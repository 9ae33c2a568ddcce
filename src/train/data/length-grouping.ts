/** Which examples make a batch, and how a batch is cut to what fits in memory. Pure: the same seed and lengths, the same batches. */
import type { Rng } from '../../core/rng.js';

/** Batches whose examples are sorted together: enough that lengths are alike, few enough that batches differ from epoch to epoch. */
const BATCHES_A_POOL = 32;

/** In place (Fisher and Yates 1938, as Durstenfeld 1964 has it). */
export function shuffle<T>(items: T[], rng: Rng): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = rng.below(i + 1);
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
  return items;
}

/**
 * Every example once, in batches of examples of similar length, so that little is padding: shuffled, cut into pools, each pool sorted by
 * length and cut into batches, the batches shuffled. The last batch may be smaller.
 * @param lengths tokens of each example
 */
export function lengthGroupedBatches(lengths: readonly number[], batchSize: number, rng: Rng): number[][] {
  const order = shuffle([...lengths.keys()], rng);
  const batches: number[][] = [];
  const pool = batchSize * BATCHES_A_POOL;
  for (let from = 0; from < order.length; from += pool) {
    const sorted = order.slice(from, from + pool).sort((one, two) => lengths[one]! - lengths[two]!);
    for (let at = 0; at < sorted.length; at += batchSize) batches.push(sorted.slice(at, at + batchSize));
  }
  return shuffle(batches, rng);
}

/**
 * A batch in pieces of at most `budget` tokens, padding included; an item over the budget is a piece of its own. Longest first, so that
 * what does not fit shows at once.
 * @param sizeOf rows and longest row of an item
 */
export function microBatches<T>(
  items: readonly T[],
  sizeOf: (item: T) => { readonly rows: number; readonly time: number },
  budget: number,
): T[][] {
  const sorted = [...items].sort((one, two) => sizeOf(two).time - sizeOf(one).time);
  const pieces: T[][] = [];
  let [rows, time] = [0, 0];
  for (const item of sorted) {
    const size = sizeOf(item);
    const piece = pieces.at(-1);
    if (piece !== undefined && (rows + size.rows) * Math.max(time, size.time) <= budget) {
      piece.push(item);
      rows += size.rows;
      time = Math.max(time, size.time);
    } else {
      pieces.push([item]);
      [rows, time] = [size.rows, size.time];
    }
  }
  return pieces;
}
