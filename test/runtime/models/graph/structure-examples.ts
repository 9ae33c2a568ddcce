import type { Value } from '../../../../src/models/graph/ir.js';
import type {
  GatherAttributes,
  ReductionAttributes,
  ShapeAttributes,
} from '../../../../src/models/graph/op-attributes.js';
import * as op from '../../../../src/models/graph/ops.js';
import { type Example, feed, normal, read, sum, tensorOf } from './example.js';

type Cube = Value<'float32', readonly ['rows', 'time', 'model']>;

const axes = { rows: 'dynamic', time: 3, model: 4 } as const;
const x = normal(11, [2, 3, 4]);
const at = read(x);

const one = (
  what: string,
  build: (v: Cube) => Value | readonly Value[],
  expected: readonly number[] | readonly (readonly number[])[],
  more: Readonly<Record<string, number>> = {},
): Example => ({
  what,
  axes: { ...axes, ...more },
  feeds: { x },
  build: (g) => {
    const built = build(g.input('x', 'float32', ['rows', 'time', 'model']));
    return Array.isArray(built) ? built : [built as Value];
  },
  expected:
    typeof expected[0] === 'number' ? [expected as readonly number[]] : (expected as readonly number[][]),
});

/** Folds the middle axis (dropped), and the outer two (kept). */
const fold = (build: typeof op.reduceMean, of: (values: readonly number[]) => number): readonly Example[] => [
  one(
    'folds a middle axis away',
    (v) => build(v, ['time']),
    tensorOf([2, 4], (i, k) => of([0, 1, 2].map((j) => at(i, j, k)))),
  ),
  one(
    "keeps folded axes as '1'",
    (v) => build(v, ['rows', 'time'], 'kept'),
    tensorOf([4], (k) => of([0, 1].flatMap((i) => [0, 1, 2].map((j) => at(i, j, k))))),
  ),
];

const total = (values: readonly number[]) => values.reduce((n, value) => n + value, 0);
const squares = (values: readonly number[]) => total(values.map((value) => value * value));

const softmaxAt = (i: number, j: number, k: number): number =>
  Math.exp(at(i, j, k)) / sum(3, (t) => Math.exp(at(i, t, k)));

const ranked = (i: number, k: number): number[] => [0, 1, 2].sort((a, b) => at(i, b, k) - at(i, a, k));

export const reductionExamples: { readonly [K in keyof ReductionAttributes]: readonly Example[] } = {
  ReduceSum: fold(op.reduceSum as typeof op.reduceMean, total),
  ReduceMean: fold(op.reduceMean, (values) => total(values) / values.length),
  ReduceMax: fold(op.reduceMax as typeof op.reduceMean, (values) => Math.max(...values)),
  ReduceL2: fold(op.reduceL2, (values) => Math.sqrt(squares(values))),
  ReduceSumSquare: fold(op.reduceSumSquare as typeof op.reduceMean, squares),
  Softmax: [one('over a middle axis', (v) => op.softmax(v, 'time'), tensorOf([2, 3, 4], softmaxAt))],
  LogSoftmax: [
    one(
      'over a middle axis',
      (v) => op.logSoftmax(v, 'time'),
      tensorOf([2, 3, 4], (i, j, k) => Math.log(softmaxAt(i, j, k))),
    ),
  ],
  ArgMax: [
    one(
      'over a middle axis',
      (v) => op.argMax(v, 'time'),
      tensorOf([2, 4], (i, k) => ranked(i, k)[0]!),
    ),
  ],
  TopK: [
    one(
      'values and places, largest first',
      (v) => Object.values(op.topK(v, { axis: 'time', k: 2, as: 'best' })),
      [
        tensorOf([2, 2, 4], (i, n, k) => at(i, ranked(i, k)[n]!, k)),
        tensorOf([2, 2, 4], (i, n, k) => ranked(i, k)[n]!),
      ],
    ),
    one(
      'the smallest',
      (v) => op.topK(v, { axis: 'time', k: 1, as: 'best', order: 'smallest' }).values,
      tensorOf([2, 1, 4], (i, _, k) => at(i, ranked(i, k)[2]!, k)),
    ),
  ],
  CumSum: [
    one(
      'from the start',
      (v) => op.cumSum(v, 'time'),
      tensorOf([2, 3, 4], (i, j, k) => sum(j + 1, (t) => at(i, t, k))),
    ),
    one(
      'from the end',
      (v) => op.cumSum(v, 'time', 'reverse'),
      tensorOf([2, 3, 4], (i, j, k) => sum(3 - j, (t) => at(i, 2 - t, k))),
    ),
  ],
};

const vector = normal(12, [4]);

export const shapeExamples: { readonly [K in keyof ShapeAttributes]: readonly Example[] } = {
  Reshape: [
    one('splits an axis', (v) => op.splitAxis(v, 'model', ['heads', 'head']), x.data, { heads: 2, head: 2 }),
    {
      what: 'merges a dynamic and a known axis',
      axes: { ...axes, tokens: 'dynamic', limit: 6 },
      feeds: { x },
      // The sum over tokens shows that the merged axis is the outer one.
      build: (g) => [
        op.reduceSum(
          op.mergeAxes(g.input('x', 'float32', ['rows', 'time', 'model']), ['rows', 'time'], 'tokens'),
          ['tokens'],
        ),
      ],
      expected: [tensorOf([4], (k) => sum(2, (i) => sum(3, (j) => at(i, j, k))))],
    },
  ],
  Transpose: [
    one(
      'reorders',
      (v) => op.transpose(v, ['model', 'rows', 'time']),
      tensorOf([4, 2, 3], (k, i, j) => at(i, j, k)),
    ),
  ],
  Squeeze: [
    one(
      'drops a kept axis',
      (v) => op.squeeze(op.reduceMax(v, ['time'], 'kept'), ['rows', 'model']),
      tensorOf([2, 4], (i, k) => Math.max(at(i, 0, k), at(i, 1, k), at(i, 2, k))),
    ),
  ],
  Unsqueeze: [
    one(
      'lines a reduced value up with what it came from',
      (v) => op.sub(v, op.unsqueeze(op.reduceMax(v, ['time']), ['rows', '1', 'model'])),
      tensorOf([2, 3, 4], (i, j, k) => at(i, j, k) - Math.max(at(i, 0, k), at(i, 1, k), at(i, 2, k))),
    ),
  ],
  Expand: [
    {
      what: 'repeats a vector over dynamic axes',
      axes,
      feeds: { x, vector },
      build: (g) => [
        op.expandTo(
          g.input('vector', 'float32', ['model']),
          g.input('x', 'float32', ['rows', 'time', 'model']),
        ),
      ],
      expected: [tensorOf([2, 3, 4], (_i, _j, k) => vector.data[k]!)],
    },
  ],
  Concat: [
    one(
      'end to end along a middle axis',
      (v) => op.concat([v, op.rename(op.neg(v), { time: 'more' })], 'time', 'keys'),
      tensorOf([2, 6, 4], (i, j, k) => (j < 3 ? at(i, j, k) : -at(i, j - 3, k))),
    ),
  ],
  Split: [
    one(
      'into unequal parts',
      (v) => op.split(v, 'model', ['q', 'k']),
      [tensorOf([2, 3, 3], at), tensorOf([2, 3, 1], (i, j) => at(i, j, 3))],
      { q: 3, k: 1 },
    ),
  ],
  Slice: [
    one(
      'between two bounds, one from the end',
      (v) => op.slice(v, 'time', { from: 1, to: -1, as: 'middle' }),
      tensorOf([2, 1, 4], (i, _, k) => at(i, 1, k)),
    ),
    {
      what: 'from a bound known at run time',
      axes: { ...axes, rest: 'dynamic' },
      feeds: { x, from: feed('int64', [1], [1]) },
      build: (g) => [
        op.reduceSum(
          op.slice(g.input('x', 'float32', ['rows', 'time', 'model']), 'time', {
            from: g.input('from', 'int64', ['1']),
            as: 'rest',
          }),
          ['rest'],
        ),
      ],
      expected: [tensorOf([2, 4], (i, k) => at(i, 1, k) + at(i, 2, k))],
    },
  ],
  Shape: [
    one('of all axes, and of one', (v) => [op.shapeOf(v), op.extentValue(v, 'rows')], [[2, 3, 4], [2]]),
  ],
  ConstantOfShape: [
    one(
      'one number in the shape of another value',
      (v) => op.fullLike(v, 'float32', 2.5),
      tensorOf([2, 3, 4], () => 2.5),
    ),
    one(
      'of integers',
      (v) => op.fullLike(v, 'int64', -3),
      tensorOf([2, 3, 4], () => -3),
    ),
  ],
  Range: [
    {
      what: 'up to an extent known at run time',
      axes,
      feeds: { x },
      build: (g) => {
        const v = g.input('x', 'float32', ['rows', 'time', 'model']);
        return [op.range(op.squeeze(op.extentValue(v, 'rows'), []), 'rows')];
      },
      expected: [[0, 1]],
    },
  ],
  OneHot: [
    one(
      'on a new last axis',
      (v) => op.oneHot(op.argMax(v, 'time'), 'float32', 'classes'),
      tensorOf([2, 4, 3], (i, k, n) => (ranked(i, k)[0] === n ? 1 : 0)),
      { classes: 3 },
    ),
  ],
  Trilu: [
    one(
      'upper, above the diagonal',
      (v) => op.trilu(v, 'upper', 1),
      tensorOf([2, 3, 4], (i, j, k) => (k > j ? at(i, j, k) : 0)),
    ),
    one(
      'lower',
      (v) => op.trilu(v, 'lower'),
      tensorOf([2, 3, 4], (i, j, k) => (k <= j ? at(i, j, k) : 0)),
    ),
  ],
  RandomUniformLike: [
    one(
      'draws between the bounds, not all alike',
      (v) => {
        const draws = op.randomUniformLike(v, { type: 'float32', low: 2, high: 3, seed: 7 });
        const inside = op.and(op.greaterOrEqual(draws, 2), op.less(draws, 3));
        const spread = op.sub(
          op.reduceMax(draws, ['rows', 'time', 'model']),
          op.neg(op.reduceMax(op.neg(draws), ['rows', 'time', 'model'])),
        );
        return [inside, op.greater(spread, 0.3)];
      },
      [tensorOf([2, 3, 4], () => 1), [1]],
    ),
  ],
};

const indices = feed('int64', [2, 2], [2, 0, 1, 1]);
const scatterAxes = { ...axes, picked: 2, model: 4, coordinates: 2, places: 2 } as const;
const picks = feed(
  'int64',
  [2, 2, 4],
  tensorOf([2, 2, 4], (i, n, k) => (i + n + k) % 3),
);
const updates = normal(13, [2, 2, 4]);
const places = feed('int64', [2, 2], [1, 2, 1, 2]);
const rowsAdded = normal(14, [2, 4]);

export const gatherExamples: { readonly [K in keyof GatherAttributes]: readonly Example[] } = {
  Gather: [
    {
      what: 'the axes of the indices take the place of the gathered axis',
      axes: { ...axes, picked: 'dynamic', beam: 2 },
      feeds: { x, indices },
      build: (g) => [
        op.gather(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          'time',
          g.input('indices', 'int64', ['picked', 'beam']),
        ),
      ],
      expected: [tensorOf([2, 2, 2, 4], (i, a, b, k) => at(i, read(indices)(a, b), k))],
    },
  ],
  GatherElements: [
    {
      what: 'one element an index',
      axes: scatterAxes,
      feeds: { x, picks },
      build: (g) => [
        op.gatherElements(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          'time',
          g.input('picks', 'int64', ['rows', 'picked', 'model']),
        ),
      ],
      expected: [tensorOf([2, 2, 4], (i, n, k) => at(i, read(picks)(i, n, k), k))],
    },
  ],
  GatherND: [
    {
      what: 'rows by coordinates',
      axes: scatterAxes,
      feeds: { x, places },
      build: (g) => [
        op.gatherND(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.input('places', 'int64', ['places', 'coordinates']),
        ),
      ],
      expected: [tensorOf([2, 4], (_, k) => at(1, 2, k))],
    },
  ],
  ScatterElements: (['add', 'none'] as const).map((reduction) => ({
    what: `with reduction ${reduction}`,
    axes: scatterAxes,
    feeds: { x, picks, updates },
    build: (g) => [
      op.scatterElements(
        g.input('x', 'float32', ['rows', 'time', 'model']),
        g.input('picks', 'int64', ['rows', 'picked', 'model']),
        g.input('updates', 'float32', ['rows', 'picked', 'model']),
        { axis: 'time', reduction },
      ),
    ],
    expected: [
      tensorOf([2, 3, 4], (i, j, k) => {
        const here = [0, 1].filter((n) => read(picks)(i, n, k) === j).map((n) => read(updates)(i, n, k));
        return reduction === 'add' ? at(i, j, k) + total(here) : (here[0] ?? at(i, j, k));
      }),
    ],
  })),
  ScatterND: [
    {
      what: 'adds every update of one place',
      axes: scatterAxes,
      feeds: { x, places, rowsAdded },
      build: (g) => [
        op.scatterND(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.input('places', 'int64', ['places', 'coordinates']),
          g.input('rowsAdded', 'float32', ['places', 'model']),
          'add',
        ),
      ],
      expected: [
        tensorOf([2, 3, 4], (i, j, k) =>
          i === 1 && j === 2 ? at(i, j, k) + read(rowsAdded)(0, k) + read(rowsAdded)(1, k) : at(i, j, k),
        ),
      ],
    },
  ],
};
