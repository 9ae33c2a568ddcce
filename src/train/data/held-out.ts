/** Which rows are kept from training. Pure: the same rows, shares and seed, the same sets. */
import { createHash } from 'node:crypto';
import type { NumberedRow } from './jsonl.js';
import type { Context } from './rows.js';

export interface HeldOutShares {
  /** Share of users, or of prompts where a row names no user, in [0, 1). */
  readonly prompts: number;
  /** Share of labelers, in [0, 1). */
  readonly labelers: number;
  readonly seed: number;
}

export interface SplitComparisons {
  readonly train: readonly NumberedRow<'comparisons'>[];
  /** By labelers who train too, on users (or prompts) that do not. */
  readonly prompts: readonly NumberedRow<'comparisons'>[];
  /** By labelers none of whose rankings are trained on (Ouyang et al. 2022, section 3.4). */
  readonly labelers: readonly NumberedRow<'comparisons'>[];
}

/** Splits by user, so that nobody's prompts stand on both sides (the paper's split), and by labeler. */
export function splitComparisons(
  rows: Iterable<NumberedRow<'comparisons'>>,
  { prompts, labelers, seed }: HeldOutShares,
): SplitComparisons {
  const split = { train: [], prompts: [], labelers: [] } as Record<
    keyof SplitComparisons,
    NumberedRow<'comparisons'>[]
  >;
  for (const numbered of rows) {
    const { labeler, user, context } = numbered.row;
    if (labeler !== null && placeOf(`labeler ${labeler}`, seed) < labelers) split.labelers.push(numbered);
    else if (placeOf(user === null ? `prompt ${textOf(context)}` : `user ${user}`, seed) < prompts)
      split.prompts.push(numbered);
    else split.train.push(numbered);
  }
  return split;
}

const textOf = (context: Context): string =>
  context.type === 'text' ? context.prompt : JSON.stringify(context.messages);

/** Uniform in [0, 1), the same for the same name and seed. */
const placeOf = (name: string, seed: number): number =>
  createHash('sha256').update(`${seed} ${name}`).digest().readUInt32BE(0) / 2 ** 32;
