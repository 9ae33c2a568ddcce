import type { OpKind, Value } from '../../../../src/models/graph/ir.js';
import type { BinaryAttributes, UnaryAttributes } from '../../../../src/models/graph/op-attributes.js';
import * as op from '../../../../src/models/graph/ops.js';
import { type Example, feed, normal, read, tensorOf } from './example.js';

type FloatValue = Value<'float32', readonly ['rows', 'model']>;

const axes = { rows: 'dynamic', time: 2, model: 4 } as const;
const x = normal(1, [3, 4]);
const y = normal(2, [3, 4]);
const bias = normal(3, [4]);
const positive = feed(
  'float32',
  [3, 4],
  x.data.map((value) => Math.abs(value) + 0.1),
);
const flags = feed(
  'bool',
  [3, 4],
  x.data.map((value) => (value > 0 ? 1 : 0)),
);
const otherFlags = feed(
  'bool',
  [3, 4],
  y.data.map((value) => (value > 0 ? 1 : 0)),
);

/** Maclaurin series; exact enough for |x| < 4 in float64. */
const erf = (value: number): number => {
  let [term, total] = [value, value];
  for (let n = 1; n < 80; n++) {
    term *= -(value * value) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
};
const sigmoid = (value: number) => 1 / (1 + Math.exp(-value));
const gelu = (value: number) => (value / 2) * (1 + erf(value / Math.SQRT2));
const tanhGelu = (value: number) =>
  (value / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (value + 0.044715 * value ** 3)));

const unary = (
  build: (v: FloatValue) => Value,
  of: (v: number) => number,
  operand = x,
): readonly Example[] => [
  {
    what: 'of each element',
    axes,
    feeds: { x: operand },
    build: (g) => [build(g.input('x', 'float32', ['rows', 'model']))],
    expected: [operand.data.map(of)],
  },
];

const predicate = (build: (v: FloatValue) => Value, of: (v: number) => boolean): readonly Example[] =>
  unary(build, (value) => (of(value) ? 1 : 0), feed('float32', [1, 4], [1, Number.NaN, Infinity, -Infinity]));

type Binary = (left: Value<'float32'>, right: Value<'float32'> | number) => Value;

/** The operands alike, a vector against a matrix, a kept axis of 1 in the middle, and a number. */
const binary = (
  build: Binary,
  of: (left: number, right: number) => number,
  left = x,
  right = y,
): readonly Example[] => [
  {
    what: 'of operands with the same axes',
    axes,
    feeds: { x: left, y: right },
    build: (g) => [
      build(g.input('x', 'float32', ['rows', 'model']), g.input('y', 'float32', ['rows', 'model'])),
    ],
    expected: [left.data.map((value, at) => of(value, right.data[at]!))],
  },
  {
    what: 'of a matrix and a vector over its last axis',
    axes,
    feeds: { x: left, bias },
    build: (g) => [build(g.input('x', 'float32', ['rows', 'model']), g.input('bias', 'float32', ['model']))],
    expected: [tensorOf([3, 4], (i, j) => of(read(left)(i, j), bias.data[j]!))],
  },
  {
    what: "of two operands that each have a '1' where the other has an axis",
    axes: { rows: 3, time: 'dynamic', model: 4 },
    feeds: { x: feed('float32', [3, 1, 4], left.data), y: feed('float32', [3, 4], right.data) },
    build: (g) => [
      build(g.input('x', 'float32', ['rows', '1', 'model']), g.input('y', 'float32', ['time', 'model'])),
    ],
    expected: [tensorOf([3, 3, 4], (i, t, j) => of(read(left)(i, j), read(right)(t, j)))],
  },
  {
    what: 'of a matrix and a number',
    axes,
    feeds: { x: left },
    build: (g) => [build(g.input('x', 'float32', ['rows', 'model']), 0.5)],
    expected: [left.data.map((value) => of(value, 0.5))],
  },
];

const compare = (build: Binary, of: (left: number, right: number) => boolean) =>
  binary(build, (left, right) => (of(left, right) ? 1 : 0), x, {
    ...y,
    data: y.data.map((value, at) => (at % 3 === 0 ? x.data[at]! : value)),
  });

const logic = (build: typeof op.and, of: (left: number, right: number) => number): readonly Example[] => [
  {
    what: 'of two masks',
    axes,
    feeds: { x: flags, y: otherFlags },
    build: (g) => [build(g.input('x', 'bool', ['rows', 'model']), g.input('y', 'bool', ['rows', 'model']))],
    expected: [flags.data.map((value, at) => of(value, otherFlags.data[at]!))],
  },
];

const biased = (build: typeof op.biasGelu, of: (value: number) => number): readonly Example[] => [
  {
    what: 'of x and a bias',
    axes,
    feeds: { x, bias },
    build: (g) => [
      build(g.input('x', 'float32', ['rows', 'model']), g.parameter('bias', 'float32', ['model'])),
    ],
    expected: [tensorOf([3, 4], (i, j) => of(read(x)(i, j) + bias.data[j]!))],
    tolerance: 1e-5,
  },
];

export const elementwiseExamples: {
  readonly [K in keyof (UnaryAttributes & BinaryAttributes) & OpKind]: readonly Example[];
} = {
  Neg: unary(op.neg, (v) => -v),
  Sqrt: unary(op.sqrt, Math.sqrt, positive),
  Reciprocal: unary(op.reciprocal, (v) => 1 / v, positive),
  Exp: unary(op.exp, Math.exp),
  Log: unary(op.log, Math.log, positive),
  Sigmoid: unary(op.sigmoid, sigmoid),
  Tanh: unary(op.tanh, Math.tanh),
  Erf: unary(op.erf, erf),
  Softplus: unary(op.softplus, (v) => Math.log1p(Math.exp(v))),
  Abs: unary(op.abs, Math.abs),
  Sign: unary(op.sign, Math.sign),
  Gelu: unary(op.gelu, gelu),
  QuickGelu: unary(
    (v) => op.quickGelu(v, 1.702),
    (v) => v * sigmoid(1.702 * v),
  ),
  Clip: [
    ...unary(
      (v) => op.clip(v, { min: -0.5, max: 0.25 }),
      (v) => Math.min(Math.max(v, -0.5), 0.25),
    ),
    ...unary(
      (v) => op.clip(v, { max: 0.25 }),
      (v) => Math.min(v, 0.25),
    ),
  ],
  Cast: [
    ...unary(
      (v) => op.cast(op.mul(v, 10), 'int32'),
      (v) => Math.trunc(Math.fround(v * 10)),
    ),
    ...unary(
      (v) => op.cast(op.cast(v, 'float16'), 'float32'),
      (v) => {
        const step = 2 ** (Math.floor(Math.log2(Math.abs(v))) - 10);
        return Math.round(v / step) * step;
      },
    ),
  ],
  Identity: unary(
    (v) => op.rename(v, { model: 'hidden' }),
    (v) => v,
  ),
  IsNaN: predicate(op.isNotANumber, Number.isNaN),
  IsInf: predicate(op.isInfinite, (v) => Math.abs(v) === Infinity),
  Not: [
    {
      what: 'of a mask',
      axes,
      feeds: { x: flags },
      build: (g) => [op.not(g.input('x', 'bool', ['rows', 'model']))],
      expected: [flags.data.map((v) => 1 - v)],
    },
  ],
  Add: binary(op.add, (a, b) => a + b),
  Sub: binary(op.sub, (a, b) => a - b),
  Mul: binary(op.mul, (a, b) => a * b),
  Div: binary(op.div, (a, b) => a / b),
  Pow: [
    {
      what: 'of positive numbers',
      axes,
      feeds: { x: positive, y },
      build: (g) => [
        op.pow(g.input('x', 'float32', ['rows', 'model']), g.input('y', 'float32', ['rows', 'model'])),
      ],
      expected: [positive.data.map((value, at) => value ** y.data[at]!)],
      tolerance: 1e-5,
    },
  ],
  Min: binary(op.min, Math.min),
  Max: binary(op.max, Math.max),
  Equal: compare(op.equal, (a, b) => a === b),
  Less: compare(op.less, (a, b) => a < b),
  LessOrEqual: compare(op.lessOrEqual, (a, b) => a <= b),
  Greater: compare(op.greater, (a, b) => a > b),
  GreaterOrEqual: compare(op.greaterOrEqual, (a, b) => a >= b),
  And: logic(op.and, (a, b) => a & b),
  Or: logic(op.or, (a, b) => a | b),
  BiasGelu: biased(op.biasGelu, gelu),
  FastGelu: [...biased(op.fastGelu, tanhGelu), ...unary((v) => op.fastGelu(v), tanhGelu)],
  Where: [
    {
      what: 'takes the left where the mask is set; the right side broadcasts',
      axes,
      feeds: { mask: flags, x, bias },
      build: (g) => [
        op.where(
          g.input('mask', 'bool', ['rows', 'model']),
          g.input('x', 'float32', ['rows', 'model']),
          g.input('bias', 'float32', ['model']),
        ),
      ],
      expected: [tensorOf([3, 4], (i, j) => (read(flags)(i, j) ? read(x)(i, j) : bias.data[j]!))],
    },
  ],
};
