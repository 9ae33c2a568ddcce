import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Rng } from '../../../../src/core/rng.js';
import { GraphBuilder } from '../../../../src/models/graph/builder.js';
import type { Axes, OpKind, Value } from '../../../../src/models/graph/ir.js';
import * as op from '../../../../src/models/graph/ops.js';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import { derivatives } from '../../../../src/train/autodiff/derivatives.js';
import { gradient } from '../../../../src/train/autodiff/gradient.js';
import { type Feed, runGraph } from '../runtime-graph.js';

/**
 * Every rule is compared with central differences in random directions, in float32 by ONNX Runtime itself. The table is exhaustive over the
 * ops that have a rule: a rule without a case fails.
 */
type Float = Value<'float32', Axes>;
interface Case {
  /** Differentiated operands: axes; extents are those of `axes`. */
  readonly operands: readonly (readonly string[])[];
  /** Values are drawn from here; it keeps away from kinks and poles. */
  readonly range?: readonly [low: number, high: number];
  /** Relative error allowed; half precision on the way needs more. */
  readonly tolerance?: number;
  readonly build: (g: GraphBuilder, ...operands: Float[]) => Value | readonly Value[];
}

const extents = {
  a: 3,
  b: 4,
  c: 5,
  d: 2,
  e: 6,
  half: 2,
  heads: 2,
  head: 4,
  x: 1,
  y: 2,
  z: 1,
  bc: 20,
  ab: 'dynamic',
  rows: 2,
  time: 3,
  picks: 3,
  dyn: 'dynamic',
  dyn2: 'dynamic',
  top: 2,
} as const;

const constant = (
  g: GraphBuilder,
  type: 'float32' | 'int64' | 'bool',
  values: readonly number[],
  axes: Axes,
) => g.constant(type, values, axes);
const one = (build: (x: Float) => Value, range?: readonly [number, number]): Case => ({
  operands: [['a', 'b']],
  build: (_, x) => build(x),
  ...(range && { range }),
});
const two = (build: (x: Float, y: Float) => Value, range?: readonly [number, number]): Case => ({
  operands: [['a', 'b'], ['b']],
  build: (_, x, y) => build(x, y),
  ...(range && { range }),
});

const cases: Partial<Record<OpKind, readonly Case[]>> = {
  Neg: [one(op.neg)],
  Sqrt: [one(op.sqrt, [0.5, 2])],
  Reciprocal: [one(op.reciprocal, [0.5, 2])],
  Exp: [one(op.exp)],
  Log: [one(op.log, [0.5, 2])],
  Sigmoid: [one(op.sigmoid)],
  Tanh: [one(op.tanh)],
  Erf: [one(op.erf)],
  Softplus: [one(op.softplus)],
  Abs: [one(op.abs, [0.2, 1]), one(op.abs, [-1, -0.2])],
  Gelu: [one(op.gelu, [-2, 2])],
  QuickGelu: [one((x) => op.quickGelu(x, 1)), one((x) => op.quickGelu(x, 1.702))],
  FastGelu: [
    one((x) => op.fastGelu(x as never), [-2, 2]),
    two((x, y) => op.fastGelu(x as never, y as never)),
  ],
  BiasGelu: [two((x, y) => op.biasGelu(x as never, y as never))],
  Clip: [
    one((x) => op.clip(x, { min: -0.5, max: 0.5 }), [-0.4, 0.4]),
    one((x) => op.clip(x, { min: 0 }), [-1, -0.1]),
    one((x) => op.clip(x, { max: 0 }), [0.1, 1]),
  ],
  Cast: [{ ...one((x) => op.cast(op.mul(op.cast(x, 'float16'), 1), 'float32') as Value), tolerance: 0.05 }],
  Identity: [one((x) => op.rename(x, { a: 'c2' } as never))],
  Add: [two(op.add as never), two((x, y) => op.add(y, x as never) as Value)],
  Sub: [two(op.sub as never)],
  Mul: [two(op.mul as never), { operands: [['a', 'b']], build: (_, x) => op.mul(x, x) }],
  Div: [two(op.div as never, [0.5, 2])],
  Pow: [two(op.pow as never, [0.5, 2])],
  Min: [
    two((x, y) => op.min(x, op.add(y, 3) as never) as Value),
    two((x, y) => op.min(op.add(x, 3), y as never) as Value),
  ],
  Max: [
    two((x, y) => op.max(x, op.add(y, 3) as never) as Value),
    two((x, y) => op.max(op.add(x, 3), y as never) as Value),
  ],
  Where: [
    {
      operands: [['a', 'b'], ['b']],
      build: (g, x, y) =>
        op.where(constant(g, 'bool', [1, 0, 1, 0], ['b']) as Value<'bool', Axes>, x, y as never),
    },
  ],
  ReduceSum: [one((x) => op.reduceSum(x, ['a'])), one((x) => op.reduceSum(x, ['b'], 'kept'))],
  ReduceMean: [
    one((x) => op.reduceMean(x, ['a', 'b'])),
    { operands: [['dyn', 'b']], build: (_, x) => op.reduceMean(x, ['dyn']) },
  ],
  ReduceMax: [
    {
      operands: [['a', 'b']],
      build: (g, x) =>
        op.reduceMax(op.add(x, constant(g, 'float32', [0, 5, 10, 15], ['b']) as never) as Float, ['b']),
    },
  ],
  ReduceL2: [one((x) => op.reduceL2(x, ['b']), [0.5, 1])],
  ReduceSumSquare: [one((x) => op.reduceSumSquare(x, ['a']))],
  Softmax: [one((x) => op.softmax(x, 'b')), one((x) => op.softmax(x, 'a'))],
  LogSoftmax: [one((x) => op.logSoftmax(x, 'b'))],
  CumSum: [one((x) => op.cumSum(x, 'b')), one((x) => op.cumSum(x, 'a', 'reverse'))],
  TopK: [
    {
      operands: [['a', 'b']],
      build: (g, x) =>
        op.topK(op.add(x, constant(g, 'float32', [5, 0, 15, 10], ['b']) as never) as Float, {
          axis: 'b',
          k: 2,
          as: 'top',
        }).values,
    },
  ],
  Reshape: [
    { operands: [['a', 'b', 'c']], build: (_, x) => op.reshape(x, ['a', 'bc']) },
    { operands: [['dyn', 'dyn2', 'b']], build: (_, x) => op.reshape(x, ['ab', 'b']) },
  ],
  Transpose: [{ operands: [['a', 'b', 'c']], build: (_, x) => op.transpose(x, ['c', 'a', 'b'] as never) }],
  Squeeze: [{ operands: [['a', 'x', 'b']], build: (_, x) => op.squeeze(x, ['a', 'b']) }],
  Unsqueeze: [one((x) => op.unsqueeze(x, ['a', '1', 'b']))],
  Expand: [{ operands: [['b'], ['a', 'b']], build: (_, x, y) => op.mul(op.expandTo(x, y), y) }],
  Concat: [
    {
      operands: [
        ['a', 'b'],
        ['a', 'c'],
      ],
      build: (_, x, y) => op.concat([x, y], 'b', 'joined'),
    },
    {
      operands: [
        ['dyn', 'b'],
        ['dyn2', 'b'],
        ['a', 'b'],
      ],
      build: (_, x, y, z) => op.concat([x, y, z], 'dyn', 'joined'),
    },
  ],
  Split: [
    { operands: [['a', 'e']], build: (_, x) => op.split(x, 'e', ['b', 'y']) as readonly Value[] },
    { operands: [['a', 'e']], build: (_, x) => (op.split(x, 'e', ['b', 'y']) as readonly Value[])[1]! },
  ],
  Slice: [
    { operands: [['a', 'c']], build: (_, x) => op.slice(x, 'c', { from: 1, to: 4, as: 'cut' }) },
    { operands: [['c', 'a']], build: (_, x) => op.slice(x, 'c', { from: -2, as: 'cut' }) },
    { operands: [['a', 'c']], build: (_, x) => op.slice(x, 'c', { from: 0, to: 2, as: 'cut' }) },
  ],
  Trilu: [
    { operands: [['a', 'b']], build: (_, x) => op.trilu(x, 'lower') },
    { operands: [['a', 'b']], build: (_, x) => op.trilu(x, 'upper', 1) },
  ],
  Gather: [
    {
      operands: [['c', 'a']],
      build: (g, x) => op.gather(x, 'c', constant(g, 'int64', [4, 0, 4], ['picks']) as never),
    },
    {
      operands: [['a', 'c']],
      build: (g, x) => op.gather(x, 'c', constant(g, 'int64', [1, 1, 3], ['picks']) as never),
    },
  ],
  GatherElements: [
    {
      operands: [['a', 'b']],
      build: (g, x) =>
        op.gatherElements(x, 'b', constant(g, 'int64', [0, 0, 3, 2, 1, 1], ['a', 'd']) as never),
    },
  ],
  GatherND: [
    {
      operands: [['a', 'b']],
      build: (g, x) => op.gatherND(x, constant(g, 'int64', [0, 1, 2, 3, 0, 1], ['picks', 'y']) as never),
    },
  ],
  MatMul: [
    {
      operands: [
        ['a', 'b'],
        ['b', 'c'],
      ],
      build: (_, x, w) => op.matmul(x as never, w as never) as Value,
    },
    {
      operands: [
        ['dyn', 'dyn2', 'b'],
        ['b', 'c'],
      ],
      build: (_, x, w) => op.matmul(x as never, w as never) as Value,
    },
    {
      operands: [
        ['d', 'a', 'b'],
        ['d', 'b', 'c'],
      ],
      build: (_, x, w) => op.matmulBatched(x as never, w as never) as Value,
    },
  ],
  FusedMatMul: (['plain', 'transposed'] as const).flatMap((left) =>
    (['plain', 'transposed'] as const).flatMap((right): Case[] => {
      const matrices: Case['operands'] = [
        left === 'plain' ? ['a', 'b'] : ['b', 'a'],
        right === 'plain' ? ['b', 'c'] : ['c', 'b'],
      ];
      const batched = matrices.map((axes) => ['d', ...axes]);
      const build: Case['build'] = (_, x, w) =>
        op.fusedMatmul(x, w as never, { left, right, alpha: 0.7 }) as Value;
      return [
        { operands: matrices, build },
        { operands: batched, build },
        ...(left === 'plain' ? [{ operands: [['d', ...matrices[0]!], matrices[1]!], build }] : []),
      ];
    }),
  ),
  LayerNormalization: [
    {
      operands: [['a', 'b'], ['b'], ['b']],
      build: (_, x, w, b) => op.layerNorm(x as never, w as never, b as never, 1e-5) as Value,
    },
  ],
  SimplifiedLayerNormalization: [
    {
      operands: [['d', 'a', 'b'], ['b']],
      build: (_, x, w) => op.rmsNorm(x as never, w as never, 1e-5) as Value,
    },
  ],
  RotaryEmbedding: [
    {
      operands: [['rows', 'heads', 'time', 'head']],
      build: (g, x) => {
        const positions = constant(g, 'int64', [0, 1, 2, 2, 1, 0], ['rows', 'time']);
        const angles = [0, 0, 0.3, 0.1, 0.6, 0.2];
        const cos = constant(g, 'float32', angles.map(Math.cos), ['a', 'half']);
        const sin = constant(g, 'float32', angles.map(Math.sin), ['a', 'half']);
        return g.emit('RotaryEmbedding', [x, positions, cos, sin], { layout: 'halves' })[0]!;
      },
    },
  ],
};

const runtime = openRuntime({ provider: 'cpu', threads: 1 });
after(() => runtime[Symbol.dispose]());
const sizes: Readonly<Record<string, number>> = { ...extents, ab: 12, dyn: 3, dyn2: 2, '1': 1 };

const sizeOf = (axes: Axes): number => axes.reduce((n, axis) => n * sizes[axis]!, 1);
const sum = (values: Float32Array): number => values.reduce((total, value) => total + value, 0);

/** Largest relative error of the gradient along three random directions. */
function directionalError(example: Case, rng: Rng): number {
  const g = new GraphBuilder('case', { ...extents, flat: 'dynamic' });
  const operands = example.operands.map((axes, i) => g.parameter(`operand_${i}`, 'float32', axes) as Float);
  const built = example.build(g, ...operands);
  const results = (Array.isArray(built) ? built : [built]) as Float[];
  // Weights that differ by element, so that a transposed or misplaced cotangent shows.
  const terms = results.map((value) => {
    const flat = op.reshape(value, ['flat']);
    const ones = op.fullLike(flat, 'float32', 0.37);
    return op.reduceSum(op.mul(flat, op.cumSum(ones, 'flat')), ['flat']);
  });
  const loss = terms.reduce((total, term) => op.add(total, term));
  const gradients = gradient(g, loss, operands);
  g.output('loss', loss);
  for (const [i, value] of gradients.entries()) g.output(`gradient_${i}`, value);

  const [low, high] = example.range ?? [-1, 1];
  const draw = (axes: Axes, from: number, to: number) =>
    Float32Array.from({ length: sizeOf(axes) }, () => from + (to - from) * rng.uniform());
  const point = example.operands.map((axes) => draw(axes, low, high));
  const feedsAt = (values: readonly Float32Array[]): Record<string, Feed> =>
    Object.fromEntries(
      example.operands.map((axes, i) => [
        `operand_${i}`,
        { type: 'float32', shape: axes.map((axis) => sizes[axis]!), data: values[i]! },
      ]),
    );
  const shapes = Object.fromEntries(
    example.operands.map((axes, i) => [`gradient_${i}`, axes.map((axis) => sizes[axis]!)]),
  );
  const found = runGraph(runtime, g, feedsAt(point), { loss: [], ...shapes });

  let worst = 0;
  for (let trial = 0; trial < 3; trial++) {
    const direction = example.operands.map((axes) => draw(axes, -1, 1));
    const step = 1e-2;
    const at = (h: number) => {
      const moved = point.map((values, i) => values.map((value, j) => value + h * direction[i]![j]!));
      return runGraph(runtime, g, feedsAt(moved), { loss: [], ...shapes }).loss![0]!;
    };
    const numeric = (at(step) - at(-step)) / (2 * step);
    const analytic = direction.reduce(
      (total, values, i) => total + sum(values.map((value, j) => value * found[`gradient_${i}`]![j]!)),
      0,
    );
    worst = Math.max(
      worst,
      Math.abs(numeric - analytic) / (Math.abs(numeric) + Math.abs(found.loss![0]!) * 1e-2 + 1),
    );
  }
  return worst;
}

for (const [kind, derivative] of Object.entries(derivatives) as [OpKind, { form: string }][]) {
  if (derivative.form !== 'vjp') continue;
  test(`the derivative of ${kind} equals central differences`, () => {
    const examples = cases[kind] ?? [];
    assert.ok(examples.length > 0, `${kind} has a derivative and no case here`);
    examples.forEach((example, i) => {
      const error = directionalError(example, new Rng(17, i));
      assert.ok(error < (example.tolerance ?? 4e-3), `case ${i}: relative error ${error.toExponential(2)}`);
    });
  });
}

test('an op without a derivative is refused by name, with what to use instead', () => {
  const g = new GraphBuilder('refusal', extents);
  const x = g.parameter('x', 'float32', ['rows', 'time', 'e']) as Float;
  const skip = g.parameter('skip', 'float32', ['rows', 'time', 'e']) as Float;
  const scale = g.parameter('scale', 'float32', ['e']) as Float;
  const { normed } = op.skipRmsNorm(x as never, skip as never, scale as never, 1e-5);
  const loss = op.reduceSum(normed as Float, ['rows', 'time', 'e']) as Value<'float32', readonly []>;
  assert.throws(
    () => gradient(g, loss, [x]),
    /SkipSimplifiedLayerNormalization has no derivative; use add and rmsNorm/,
  );
});

test('a value with several uses gets the sum of their cotangents, and one without any is refused', () => {
  const g = new GraphBuilder('uses', extents);
  const x = g.parameter('x', 'float32', ['a']) as Float;
  const other = g.parameter('other', 'float32', ['a']) as Float;
  const loss = op.reduceSum(op.add(op.mul(x, x), op.mul(x, 3)), ['a']) as Value<'float32', readonly []>;
  assert.throws(() => gradient(g, loss, [other]), /does not depend on other/);
  const [slope] = gradient(g, loss, [x]);
  g.output('slope', slope!);
  g.output('unused', op.add(other, 0));
  const { slope: found } = runGraph(
    runtime,
    g,
    {
      x: { type: 'float32', shape: [3], data: [1, -2, 0.5] },
      other: { type: 'float32', shape: [3], data: [0, 0, 0] },
    },
    { slope: [3], unused: [3] },
  );
  assert.deepEqual([...found!], [5, -1, 4]);
});
