/** Matrix products, and weights held in 8 or 4 bits. */
import { emitOne } from '../axes.js';
import type { Axes, ElementType, Extent, FloatType, IndexType, Signature, Value } from '../ir.js';
import { describeAxes } from '../ir.js';
import type { LinearAttributes } from '../op-attributes.js';
import {
  axisAt,
  broadcast,
  expectRank,
  expectType,
  meet,
  operand,
  type Rule,
  type RulesOf,
  refuse,
  sameType,
  signature,
} from '../rule.js';

type Side = 'plain' | 'transposed';

/** x[..., k] w[k, n]. Where the names of k differ, the call does not compile. */
export const matmul = <E extends ElementType, L extends Axes, K extends string, N extends string>(
  x: Value<E, readonly [...L, K]>,
  w: Value<NoInfer<E>, readonly [NoInfer<K>, N]>,
): Value<E, readonly [...L, N]> => emitOne(x.graph, 'MatMul', [x, w], {});

/** x[batch..., m, k] y[batch..., k, n], a product for each place of the shared batch axes. */
export const matmulBatched = <
  E extends ElementType,
  B extends Axes,
  M extends string,
  K extends string,
  N extends string,
>(
  x: Value<E, readonly [...B, M, K]>,
  y: Value<NoInfer<E>, readonly [...B, NoInfer<K>, N]>,
): Value<E, readonly [...B, M, N]> => emitOne(x.graph, 'MatMul', [x, y], {});

/** x[..., k] w[n, k] transposed, times alpha: a weight as Hugging Face's Linear keeps it. */
export const linear = <E extends FloatType, L extends Axes, K extends string, N extends string>(
  x: Value<E, readonly [...L, K]>,
  w: Value<NoInfer<E>, readonly [N, NoInfer<K>]>,
  alpha = 1,
): Value<E, readonly [...L, N]> =>
  emitOne(x.graph, 'FusedMatMul', [x, w], { left: 'plain', right: 'transposed', alpha });

/** Axis k of an operand of a product, and the axis beside it. */
type Inner<A extends Axes, S extends Side> = A extends readonly [
  ...infer _,
  infer R extends string,
  infer C extends string,
]
  ? S extends 'plain'
    ? C
    : R
  : string;
type Outer<A extends Axes, S extends Side> = Inner<A, S extends 'plain' ? 'transposed' : 'plain'>;
type Batch<A extends Axes> = A extends readonly [...infer B extends Axes, string, string] ? B : Axes;
type Flip<S extends Side> = S extends 'plain' ? 'transposed' : 'plain';
type Joined<A extends Axes, B extends Axes, S extends Side, T extends Side> = [Inner<A, S>] extends [
  Inner<B, Flip<T>>,
]
  ? unknown
  : { readonly 'inner axes differ': readonly [Inner<A, S>, Inner<B, Flip<T>>] };

/** alpha op(x) op(y), each operand's last two axes as they are or transposed; batch axes are those of x. float32 alone on the CPU. */
export const fusedMatmul = <
  E extends FloatType,
  A extends Axes,
  B extends Axes,
  const S extends Side = 'plain',
  const T extends Side = 'plain',
>(
  x: Value<E, A>,
  y: Value<NoInfer<E>, B> & Joined<A, B, S, T>,
  options: { left?: S; right?: T; alpha?: number },
): Value<E, readonly [...Batch<A>, Outer<A, S>, Outer<B, Flip<T>>]> => {
  const { left = 'plain', right = 'plain', alpha = 1 } = options;
  return emitOne(x.graph, 'FusedMatMul', [x, y], { left, right, alpha });
};

/** Operands of MatMulNBits and GatherBlockQuantized beside the activations. */
export interface QuantizedWeight<E extends FloatType, N extends string> {
  /** [n, k / block, block bits / 8]: two 4-bit values a byte, the first in the low half. */
  readonly blocks: Value<'uint8', readonly [N, string, string]>;
  /** [n, k / block] */
  readonly scales: Value<E, readonly [N, string]>;
  /** Packed [n, ceil(k / block bits / 8)]; without it values are around 2^(bits-1). */
  readonly zeroPoints?: Value<'uint8', readonly [N, string]>;
}

/** x[..., k] W[n, k] transposed, plus bias, W dequantised on the way. k's extent must be known. */
export const matmulNBits = <E extends FloatType, L extends Axes, K extends string, N extends string>(
  x: Value<E, readonly [...L, K]>,
  weight: QuantizedWeight<NoInfer<E>, N>,
  options: LinearAttributes['MatMulNBits'],
  bias: Value<NoInfer<E>, readonly [NoInfer<N>]> | null = null,
): Value<E, readonly [...L, N]> => {
  const { blocks, scales, zeroPoints = null } = weight;
  return emitOne(x.graph, 'MatMulNBits', [x, blocks, scales, zeroPoints, null, bias], options);
};

/** Rows of an embedding table in 8 or 4 bits: data [n, k bits / 8], scales [n, k / block]; `axis` names k, whose extent is declared. */
export const gatherBlockQuantized = <E extends FloatType, I extends Axes, const K extends string>(
  table: {
    readonly data: Value<'uint8', readonly [string, string]>;
    readonly scales: Value<E, readonly [string, string]>;
    readonly zeroPoints?: Value<'uint8', readonly [string, string]>;
  },
  indices: Value<IndexType, I>,
  options: { bits: 4 | 8; block: number; axis: K },
): Value<E, readonly [...I, K]> => {
  const { graph } = indices;
  const { axis } = options;
  const extent =
    graph.extent(axis) ?? refuse(`no known extent for '${axis}'`, "declare it in the builder's axes");
  const inputs = [table.data, indices, table.scales, table.zeroPoints ?? null];
  return emitOne(graph, 'GatherBlockQuantized', inputs, { ...options, extent });
};

/** x / scale + zeroPoint, rounded to even and saturated; the scale is one number, or has one axis of x. */
export const quantizeLinear = <Q extends 'int8' | 'uint8', A extends Axes>(
  x: Value<FloatType, A>,
  scale: Value<FloatType, readonly [] | readonly [A[number]]>,
  zeroPoint: Value<Q, readonly [] | readonly [A[number]]>,
): Value<Q, A> => emitOne(x.graph, 'QuantizeLinear', [x, scale, zeroPoint], { to: zeroPoint.type });

/** (x - zeroPoint) scale, in the scale's type. */
export const dequantizeLinear = <E extends FloatType, A extends Axes>(
  x: Value<'int8' | 'uint8' | 'int32', A>,
  scale: Value<E, readonly [] | readonly [A[number]]>,
  zeroPoint: Value<'int8' | 'uint8' | 'int32', readonly [] | readonly [A[number]]> | null = null,
): Value<E, A> => emitOne(x.graph, 'DequantizeLinear', [x, scale, zeroPoint], {});

const flip = (value: Signature, side: Side): Signature => {
  if (side === 'plain') return value;
  const { type, axes, extents } = value;
  const swap = <T>(list: readonly T[]) => [...list.slice(0, -2), list.at(-1)!, list.at(-2)!];
  return { type, axes: swap(axes), extents: swap(extents) };
};

function product(x: Signature, y: Signature): readonly Signature[] {
  sameType(x, y);
  if (x.axes.length === 0 || y.axes.length < 2)
    refuse(`${describeAxes(x)} times ${describeAxes(y)}`, 'both need axes; the right side two');
  const inner = x.axes.at(-1)!;
  if (inner !== y.axes.at(-2))
    refuse(
      `the inner axes of ${describeAxes(x)} and ${describeAxes(y)} differ: '${inner}' and '${y.axes.at(-2)}'`,
      'transpose the weight, or rename one of the two axes',
    );
  meet(inner, x.extents.at(-1)!, y.extents.at(-2)!);
  const outer = (value: Signature, drop: number): Signature => ({
    type: value.type,
    axes: value.axes.slice(0, -drop),
    extents: value.extents.slice(0, -drop),
  });
  const rows = x.axes.length > 1 ? 2 : 1;
  const batch = broadcast(outer(x, rows), outer(y, 2));
  const m = rows === 2 ? [x.axes.at(-2)!] : [];
  const mExtent = rows === 2 ? [x.extents.at(-2)!] : [];
  return [
    signature(
      x.type,
      [...batch.axes, ...m, y.axes.at(-1)!],
      [...batch.extents, ...mExtent, y.extents.at(-1)!],
    ),
  ];
}

const blocksOf = (k: number, block: number): number => Math.ceil(k / block);

function expectExtent(value: Signature, at: number, expected: number, meaning: string): void {
  const extent = value.extents.at(at);
  if (extent !== null && extent !== expected)
    refuse(
      `${meaning} ${describeAxes(value)} has ${extent} where ${expected} is needed`,
      'check block and bits',
    );
}

const knownK = (k: Extent, axis: string): number =>
  k ?? refuse(`axis '${axis}' is dynamic`, "a product with quantised weights needs it in the builder's axes");

const matmulNBitsRule: Rule<'MatMulNBits'> = (inputs, { bits, block }) => {
  const x = operand(inputs, 0);
  const blocks = operand(inputs, 1);
  const scales = operand(inputs, 2);
  const [zeroPoints, bias] = [inputs[3] ?? null, inputs[5] ?? null];
  expectType(blocks, 'uint8');
  sameType(x, scales, bias);
  expectRank(blocks, 3, 'the weight in blocks');
  expectRank(scales, 2, 'the scales');
  const k = knownK(x.extents.at(-1) ?? null, x.axes.at(-1) ?? '');
  expectExtent(blocks, 1, blocksOf(k, block), 'the weight');
  expectExtent(blocks, 2, (block * bits) / 8, 'the weight');
  expectExtent(scales, 1, blocksOf(k, block), 'the scales');
  if (zeroPoints !== null) {
    expectType(zeroPoints, 'uint8');
    expectRank(zeroPoints, 2, 'the zero points');
    expectExtent(zeroPoints, 1, Math.ceil((blocksOf(k, block) * bits) / 8), 'the zero points');
  }
  const axis = blocks.axes[0]!;
  for (const other of [scales, zeroPoints, bias])
    if (other !== null && other.axes[0] !== axis)
      refuse(`the weight has '${axis}' first and ${describeAxes(other)} has not`, 'name them alike');
  return [signature(x.type, x.axes.with(-1, axis), x.extents.with(-1, blocks.extents[0]!))];
};

/** One scale for all, or one for each place of an axis of x. */
const expectScale = (x: Signature, scale: Signature): void => {
  if (scale.axes.length > 1)
    refuse(`a scale with axes ${describeAxes(scale)}`, 'give it one axis of x, or none');
  const [axis] = scale.axes;
  if (axis !== undefined) meet(axis, x.extents[axisAt(x, axis)]!, scale.extents[0]!);
};

export const linearRules: RulesOf<LinearAttributes> = {
  MatMul: (inputs) => product(operand(inputs, 0), operand(inputs, 1)),
  FusedMatMul: (inputs, { left, right }) =>
    product(flip(operand(inputs, 0), left), flip(operand(inputs, 1), right)),
  MatMulNBits: matmulNBitsRule,
  GatherBlockQuantized: (inputs, { bits, block, axis, extent }) => {
    const [data, indices, scales] = [operand(inputs, 0), operand(inputs, 1), operand(inputs, 2)];
    expectType(data, 'uint8');
    expectType(indices, 'int64', 'int32');
    expectExtent(data, 1, (extent * bits) / 8, 'the table');
    expectExtent(scales, 1, blocksOf(extent, block), 'the scales');
    return [signature(scales.type, [...indices.axes, axis], [...indices.extents, extent])];
  },
  QuantizeLinear: (inputs, { to }) => {
    const x = operand(inputs, 0);
    expectScale(x, operand(inputs, 1));
    expectType(operand(inputs, 2), to);
    return [signature(to, x.axes, x.extents)];
  },
  DequantizeLinear: (inputs) => {
    const x = operand(inputs, 0);
    const scale = operand(inputs, 1);
    expectType(x, 'int8', 'uint8', 'int32');
    expectScale(x, scale);
    sameType(x, inputs[2]);
    return [signature(scale.type, x.axes, x.extents)];
  },
};
