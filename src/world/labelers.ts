import type { Rng } from '../core/rng.js';
import { judge } from './gold-judge.js';
import type { Task } from './task.js';

/**
 * Simulated labelers: the gold score seen through noise, so that two of them agree with each other on 70-80 % of pairs, as the paper's
 * did (72.6 +- 1.5 %, section 3.4); a tie is a verdict too. Outputs that look about equally good to a labeler get the same rank, since
 * otherwise most of the pairs that a good model gives would be ranked by noise alone.
 */
export interface LabelerOptions {
  /** Standard deviation of what a labeler adds to the gold score. */
  readonly noise: number;
  /** Scores closer than this are a tie. */
  readonly tieWithin: number;
}

export const defaultLabeler: LabelerOptions = { noise: 0.14, tieWithin: 0.2 };

/** Ranks of the completions, 1 best; equal ranks are ties. Identical texts tie always. */
export function rankCompletions(
  task: Task,
  completions: readonly string[],
  rng: Rng,
  options: LabelerOptions = defaultLabeler,
): number[] {
  const seen = new Map<string, number>();
  const scores = completions.map((completion) => {
    const text = completion.trim();
    const score = seen.get(text) ?? judge(task, text).overall + options.noise * rng.normal();
    seen.set(text, score);
    return score;
  });
  const order = scores.map((_, i) => i).sort((a, b) => scores[b]! - scores[a]!);
  const ranks = new Array<number>(scores.length);
  order.forEach((index, place) => {
    const above = order[place - 1];
    const tied = above !== undefined && scores[above]! - scores[index]! <= options.tieWithin;
    ranks[index] = tied ? ranks[above]! : place + 1;
  });
  return ranks;
}
