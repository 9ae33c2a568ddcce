import type { Value } from '../../../../src/models/graph/ir.js';
import type { TransformerAttributes } from '../../../../src/models/graph/op-attributes.js';
import * as op from '../../../../src/models/graph/ops.js';
import { type Example, feed, normal, read, sum, tensorOf } from './example.js';

const axes = { rows: 'dynamic', time: 3, model: 4 } as const;
const x = normal(31, [2, 3, 4]);
const skip = normal(32, [2, 3, 4]);
const scale = normal(33, [4]);
const shift = normal(34, [4]);
const EPSILON = 1e-5;

type At = (...index: number[]) => number;

const rms = (at: At, i: number, j: number, k: number): number =>
  (at(i, j, k) / Math.sqrt(sum(4, (n) => at(i, j, n) ** 2) / 4 + EPSILON)) * scale.data[k]!;

const layer = (at: At, i: number, j: number, k: number): number => {
  const mean = sum(4, (n) => at(i, j, n)) / 4;
  const variance = sum(4, (n) => (at(i, j, n) - mean) ** 2) / 4;
  return ((at(i, j, k) - mean) / Math.sqrt(variance + EPSILON)) * scale.data[k]! + shift.data[k]!;
};

const streamSum: At = (i, j, k) => read(x)(i!, j!, k!) + read(skip)(i!, j!, k!);
const biasedSum: At = (i, j, k) => streamSum(i!, j!, k!) + shift.data[k!]!;
const over = (of: (i: number, j: number, k: number) => number) => tensorOf([2, 3, 4], of);

/** Rotation of a head by position: element i with i + HALF, each pair at its own frequency. */
const HEAD = 16;
const HALF = HEAD / 2;
const angles = Array.from({ length: HALF }, (_, i) => 10 ** (-i / HALF));
const table = (of: (angle: number) => number) =>
  feed(
    'float32',
    [8, HALF],
    tensorOf([8, HALF], (p, i) => of(p * angles[i]!)),
  );
const cosine = table(Math.cos);
const sine = table(Math.sin);
const rotated = (head: (d: number) => number, position: number, d: number): number => {
  const angle = position * angles[d % HALF]!;
  return d < HALF
    ? head(d) * Math.cos(angle) - head(d + HALF) * Math.sin(angle)
    : head(d) * Math.cos(angle) + head(d - HALF) * Math.sin(angle);
};

const heads = normal(35, [2, 2, 3, HEAD]);
const positions = feed('int64', [2, 3], [0, 1, 2, 5, 6, 7]);

/** One head's answer: softmax over the visible keys' scores, then their values. */
function attend(
  query: (d: number) => number,
  keys: number,
  key: At,
  value: At,
  softcap: number | null,
): (d: number) => number {
  const scores = Array.from({ length: keys }, (_, t) => {
    const score = sum(HEAD, (d) => query(d) * key(t, d)) / Math.sqrt(HEAD);
    return softcap === null ? score : softcap * Math.tanh(score / softcap);
  });
  const norm = scores.reduce((total, score) => total + Math.exp(score), 0);
  return (d) => sum(keys, (t) => (Math.exp(scores[t]!) / norm) * value(t, d));
}

/** A decode step of two rows with 2 and 5 tokens behind them: 2 heads share 1 kv head, all in one packed operand. */
function groupQuery(
  what: string,
  options: { window?: number; softcap?: number; rotary: 'halves' | 'none' },
): Example {
  const lengths = [2, 5];
  const packed = normal(36, [2, 1, 4 * HEAD]);
  const pastKey = normal(37, [2, 1, 8, HEAD]);
  const pastValue = normal(38, [2, 1, 8, HEAD]);
  const at = read(packed);
  const turn = (head: (d: number) => number, position: number, d: number) =>
    options.rotary === 'none' ? head(d) : rotated(head, position, d);
  const newKey = (r: number, d: number) => turn((e) => at(r, 0, 2 * HEAD + e), lengths[r]!, d);
  const expected = tensorOf([2, 1, 2 * HEAD], (r, _, c) => {
    const past = lengths[r]!;
    const first = options.window === undefined ? 0 : Math.max(past + 1 - options.window, 0);
    const head = c - (c % HEAD);
    const key: At = (t, d) => (t! + first < past ? read(pastKey)(r, 0, t! + first, d!) : newKey(r, d!));
    const value: At = (t, d) =>
      t! + first < past ? read(pastValue)(r, 0, t! + first, d!) : at(r, 0, 3 * HEAD + d!);
    const query = (d: number) => turn((e) => at(r, 0, head + e), past, d);
    return attend(query, past + 1 - first, key, value, options.softcap ?? null)(c % HEAD);
  });
  const present = (past: typeof pastKey, fresh: At) =>
    tensorOf([2, 1, 8, HEAD], (r, _, t, d) => (t === lengths[r] ? fresh(r, d) : read(past)(r, 0, t, d)));
  return {
    what,
    axes: {
      rows: 'dynamic',
      time: 1,
      qkv: 4 * HEAD,
      kv: 1,
      positions: 8,
      head: HEAD,
      half: HALF,
      attended: 2 * HEAD,
    },
    feeds: {
      packed,
      pastKey,
      pastValue,
      last: feed('int32', [2], lengths),
      total: feed('int32', [], [6]),
      cosine,
      sine,
    },
    build: (g) => {
      const cache = ['rows', 'kv', 'positions', 'head'] as const;
      const result = op.groupQueryAttention(
        {
          query: g.input('packed', 'float32', ['rows', 'time', 'qkv']),
          pastKey: g.input('pastKey', 'float32', cache),
          pastValue: g.input('pastValue', 'float32', cache),
          lastPosition: g.input('last', 'int32', ['rows']),
          totalLength: g.input('total', 'int32', []),
          ...(options.rotary !== 'none' && {
            cosine: g.parameter('cosine', 'float32', ['positions', 'half']),
            sine: g.parameter('sine', 'float32', ['positions', 'half']),
          }),
        },
        { heads: 2, kvHeads: 1, axis: 'attended', present: 'positions', ...options },
      );
      // What stands past a row's own length is nobody's business: only the rows' valid positions are compared.
      return [result.attended, valid(result.presentKey), valid(result.presentValue)];
    },
    expected: [
      expected,
      firstThree(present(pastKey, (r, d) => newKey(r!, d!))),
      firstThree(present(pastValue, (r, d) => at(r!, 0, 3 * HEAD + d!))),
    ],
    tolerance: 1e-5,
  };
}
const valid = (cache: Value) => op.slice(cache, 'positions', { from: 0, to: 3, as: 'seen' });
const firstThree = (cache: readonly number[]) =>
  tensorOf([2, 1, 3, HEAD], (r, _, t, d) => cache[(r * 8 + t) * HEAD + d]!);

function multiHead(mask: 'causal' | 'none'): Example {
  const [query, key, value] = [
    normal(39, [2, 3, 2 * HEAD]),
    normal(40, [2, 3, 2 * HEAD]),
    normal(41, [2, 3, 2 * HEAD]),
  ];
  return {
    what: `mask ${mask}`,
    axes: { rows: 'dynamic', time: 3, keys: 3, model: 2 * HEAD },
    feeds: { query, key, value },
    build: (g) => [
      op.multiHeadAttention(
        {
          query: g.input('query', 'float32', ['rows', 'time', 'model']),
          key: g.input('key', 'float32', ['rows', 'keys', 'model']),
          value: g.input('value', 'float32', ['rows', 'keys', 'model']),
        },
        { heads: 2, axis: 'attended', present: 'keys', mask },
      ).attended,
    ],
    expected: [
      tensorOf([2, 3, 2 * HEAD], (r, t, c) => {
        const head = c - (c % HEAD);
        const part =
          (of: typeof key): At =>
          (k, d) =>
            read(of)(r, k!, head + d!);
        const seen = mask === 'causal' ? t + 1 : 3;
        return attend((d) => read(query)(r, t, head + d), seen, part(key), part(value), null)(c % HEAD);
      }),
    ],
    tolerance: 1e-5,
  };
}

export const transformerExamples: { readonly [K in keyof TransformerAttributes]: readonly Example[] } = {
  LayerNormalization: [
    {
      what: 'over the last axis, with a bias',
      axes,
      feeds: { x, scale, shift },
      build: (g) => [
        op.layerNorm(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.parameter('scale', 'float32', ['model']),
          g.parameter('shift', 'float32', ['model']),
          EPSILON,
        ),
      ],
      expected: [over((i, j, k) => layer(read(x), i, j, k))],
      tolerance: 1e-5,
    },
  ],
  SimplifiedLayerNormalization: [
    {
      what: 'over the last axis',
      axes,
      feeds: { x, scale },
      build: (g) => [
        op.rmsNorm(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.parameter('scale', 'float32', ['model']),
          EPSILON,
        ),
      ],
      expected: [over((i, j, k) => rms(read(x), i, j, k))],
      tolerance: 1e-5,
    },
  ],
  SkipLayerNormalization: [
    {
      what: 'the norm of the sum with a bias, and the sum',
      axes,
      feeds: { x, skip, scale, shift },
      build: (g) => {
        const shiftWeight = g.parameter('shift', 'float32', ['model']);
        const { normed, sum: total } = op.skipLayerNorm(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.input('skip', 'float32', ['rows', 'time', 'model']),
          { scale: g.parameter('scale', 'float32', ['model']), shift: shiftWeight, bias: shiftWeight },
          EPSILON,
        );
        return [normed, total];
      },
      expected: [over((i, j, k) => layer(biasedSum, i, j, k)), over(biasedSum)],
      tolerance: 1e-5,
    },
  ],
  SkipSimplifiedLayerNormalization: [
    {
      what: 'the norm of the sum, and the sum',
      axes,
      feeds: { x, skip, scale },
      build: (g) => {
        const { normed, sum: total } = op.skipRmsNorm(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.input('skip', 'float32', ['rows', 'time', 'model']),
          g.parameter('scale', 'float32', ['model']),
          EPSILON,
        );
        return [normed, total];
      },
      expected: [over((i, j, k) => rms(streamSum, i, j, k)), over(streamSum)],
      tolerance: 1e-5,
    },
  ],
  RotaryEmbedding: [
    {
      what: 'halves, at any positions',
      axes: { rows: 'dynamic', heads: 2, time: 3, head: HEAD, half: HALF, positions: 8 },
      feeds: { x: heads, positions, cosine, sine },
      build: (g) => [
        op.rotaryEmbedding(
          g.input('x', 'float32', ['rows', 'heads', 'time', 'head']),
          g.input('positions', 'int64', ['rows', 'time']),
          g.parameter('cosine', 'float32', ['positions', 'half']),
          g.parameter('sine', 'float32', ['positions', 'half']),
        ),
      ],
      expected: [
        tensorOf([2, 2, 3, HEAD], (r, h, t, d) =>
          rotated((e) => read(heads)(r, h, t, e), read(positions)(r, t), d),
        ),
      ],
      tolerance: 1e-5,
    },
  ],
  GroupQueryAttention: [
    groupQuery('a decode step with rotation, rows of different lengths', { rotary: 'halves' }),
    groupQuery('without rotation, with a soft cap', { rotary: 'none', softcap: 2 }),
    groupQuery('a window of three positions', { rotary: 'halves', window: 3 }),
  ],
  MultiHeadAttention: [multiHead('none'), multiHead('causal')],
};
