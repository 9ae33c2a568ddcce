/** Ranked completions as pairs: every pair of a prompt is in one micro-batch, and each completion goes through the model once. */
import { AppError } from '../core/errors.js';
import type { Feeds } from './batch-run.js';
import type { Example, RankedExample } from './data/examples.js';
import { microBatches } from './data/length-grouping.js';
import { floatFeed, indexFeed } from './language-loss.js';
import { requireExamples } from './training-job.js';

/** Rows of a micro-batch and the pairs between them. */
export interface PairBatch {
  readonly rows: readonly Example[];
  /** Indices into rows. */
  readonly winners: readonly number[];
  readonly losers: readonly number[];
  /** 1 / (pairs of the prompt x prompts of the batch): a prompt counts once, however many completions it has. */
  readonly weights: readonly number[];
}

/** Index pairs (better, worse); ties make none. */
export function rankedPairs(ranks: readonly number[]): (readonly [number, number])[] {
  return ranks.flatMap((rank, i) => ranks.flatMap((other, j) => (rank < other ? [[i, j] as const] : [])));
}

/**
 * Rows are refused where they are parsed; comparisons made in code are looked at here.
 * @throws AppError `dataset_empty`; `invalid_value` where a comparison has no two completions of different ranks
 */
export function requirePairs(train: readonly RankedExample[]): void {
  requireExamples(train);
  const at = train.findIndex(({ ranks }) => rankedPairs(ranks).length === 0);
  if (at < 0) return;
  const { length } = train[at]!.ranks;
  throw new AppError(
    'invalid_value',
    `Comparison ${at} has ${length} completions and no two of different ranks, so there is nothing to learn from it.`,
    { param: `train.${at}.ranks` },
  );
}

export const longestOf = ({ sequences }: RankedExample): number =>
  Math.max(...sequences.map(({ tokens }) => tokens.length));

/** A batch of prompts in micro-batches of at most `budget` tokens, padding included; a prompt is never split. */
export function pairBatches(prompts: readonly RankedExample[], budget: number): PairBatch[] {
  const sizeOf = (prompt: RankedExample) => ({ rows: prompt.sequences.length, time: longestOf(prompt) });
  return microBatches(prompts, sizeOf, budget).map((piece) => pairBatch(piece, prompts.length));
}

function pairBatch(piece: readonly RankedExample[], promptsOfBatch: number): PairBatch {
  const batch = {
    rows: [] as Example[],
    winners: [] as number[],
    losers: [] as number[],
    weights: [] as number[],
  };
  for (const { sequences, ranks } of piece) {
    const pairs = rankedPairs(ranks);
    for (const [winner, loser] of pairs) {
      batch.winners.push(batch.rows.length + winner);
      batch.losers.push(batch.rows.length + loser);
      batch.weights.push(1 / (pairs.length * promptsOfBatch));
    }
    batch.rows.push(...sequences);
  }
  return batch;
}

export const pairFeeds = ({ winners, losers, weights }: PairBatch): Feeds => ({
  winners: indexFeed(winners),
  losers: indexFeed(losers),
  weights: floatFeed(Float32Array.from(weights)),
});

export const pairShare = (margins: Iterable<number>): { readonly right: number; readonly total: number } => {
  let [right, total] = [0, 0];
  for (const margin of margins) {
    right += margin > 0 ? 1 : margin === 0 ? 0.5 : 0;
    total++;
  }
  return { right, total };
};
