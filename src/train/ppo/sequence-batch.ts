import type { TokenId } from '../../core/units.js';
import type { Feeds } from '../batch-run.js';
import type { Episode } from './rollout.js';

/** One row of a batch and the positions of it that go through a head. */
export interface Sequence {
  readonly tokens: readonly TokenId[];
  /** First picked position, and how many from there on. */
  readonly first: number;
  readonly count: number;
}

export interface SequenceBatch {
  /** `tokens` [rows, time] and `picked` [picked]. */
  readonly feeds: Feeds;
  readonly picked: number;
}

/** Batches of nearly the same length share a shape, and with it ONNX Runtime's memory plan. */
const TIME_MULTIPLE = 8;

/** Rows padded on the right with token 0, which no picked position can see. */
export function sequenceBatch(sequences: readonly Sequence[], maxTime: number): SequenceBatch {
  const longest = Math.max(...sequences.map(({ first, count }) => first + count));
  const time = Math.min(maxTime, Math.ceil(longest / TIME_MULTIPLE) * TIME_MULTIPLE);
  const picked = sequences.reduce((sum, { count }) => sum + count, 0);
  const tokens = new BigInt64Array(sequences.length * time);
  const positions = new BigInt64Array(picked);
  let at = 0;
  for (const [row, { tokens: ids, first, count }] of sequences.entries()) {
    // What follows the last picked position changes nothing.
    for (let position = 0; position < first + count; position++)
      tokens[row * time + position] = BigInt(ids[position]!);
    for (let position = first; position < first + count; position++)
      positions[at++] = BigInt(row * time + position);
  }
  return {
    feeds: {
      tokens: { type: 'int64', shape: [sequences.length, time], data: tokens },
      picked: { type: 'int64', shape: [picked], data: positions },
    },
    picked,
  };
}

/** The states before each response token: position p - 1 predicts the first token of a response to p prompt tokens. */
export const responseStates = ({ prompt, response }: Episode, count = response.length): Sequence => ({
  tokens: [...prompt, ...response],
  first: prompt.length - 1,
  count,
});

/** The whole episode's last token, where a reward model reads its score. */
export const lastState = ({ prompt, response }: Pick<Episode, 'prompt' | 'response'>): Sequence => ({
  tokens: [...prompt, ...response],
  first: prompt.length + response.length - 1,
  count: 1,
});

/** Feeds of one number a picked position, from one array a row. */
export function pickedFloats(rows: readonly ArrayLike<number>[]): Feeds[string] {
  const data = new Float32Array(rows.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const row of rows) {
    data.set(row, at);
    at += row.length;
  }
  return { type: 'float32', shape: [data.length], data };
}

export function pickedTokens(rows: readonly (readonly TokenId[])[]): Feeds[string] {
  const data = BigInt64Array.from(rows.flat(), (id) => BigInt(id));
  return { type: 'int64', shape: [data.length], data };
}

/** One number a picked position, back as one array a row. */
export function byRow(flat: Float32Array, counts: readonly number[]): Float32Array[] {
  let at = 0;
  return counts.map((count) => {
    at += count;
    return flat.slice(at - count, at);
  });
}

/**
 * Runs items in groups of at most `size`, alike in length so that little is padding, and gives the results in the items' own order.
 * @param run one result an item of the group
 */
export function inLengthGroups<T extends Pick<Sequence, 'first' | 'count'>, R>(
  items: readonly T[],
  size: number,
  run: (group: readonly T[]) => readonly R[],
): R[] {
  const lengthOf = (index: number) => items[index]!.first + items[index]!.count;
  const order = items.map((_, index) => index).sort((a, b) => lengthOf(a) - lengthOf(b) || a - b);
  const results = new Array<R>(items.length);
  for (let from = 0; from < order.length; from += size) {
    const group = order.slice(from, from + size);
    const found = run(group.map((index) => items[index]!));
    for (const [at, index] of group.entries()) results[index] = found[at]!;
  }
  return results;
}
