/** IR op -> ONNX op: names of axes become positions, and what ONNX wants as a tensor becomes one. Opset 18 and com.microsoft 1. */
import type { Node, OpKind, Value } from './ir.js';
import { encodeLiteral } from './literal.js';
import {
  boolean,
  float,
  int,
  ints,
  type Literal,
  type Lowering,
  microsoft,
  type OnnxAttribute,
  type OnnxNode,
  onnx,
  onnxDataType,
  scalar,
  string,
  vector,
} from './onnx-node.js';
import type { ScatterReduction } from './op-attributes.js';
import { addedPositions, isCopied } from './ops/shape-rules.js';
import { transformerLowerings } from './transformer-lowering.js';

const plain = (node: Node): OnnxNode => onnx(node);
const fused = (node: Node): OnnxNode => microsoft(node);

const first = (node: Node): Value => node.inputs[0]!;
const position = (value: Value, axis: string): OnnxAttribute => int(value.axes.indexOf(axis));

const along = (node: Node<'Softmax' | 'LogSoftmax' | 'Gather' | 'GatherElements'>): OnnxNode =>
  onnx(node, { attributes: { axis: position(first(node), node.attributes.axis) } });

type Reductions = 'ReduceSum' | 'ReduceMean' | 'ReduceMax' | 'ReduceL2' | 'ReduceSumSquare';

/** ReduceSum takes its axes as an input since 13, ReduceMean, ReduceL2 and the rest since 18. */
const reduce = (node: Node<Reductions>): OnnxNode => {
  const x = first(node);
  const { axes, rank } = node.attributes;
  return onnx(node, {
    inputs: [x, vector(axes.map((axis) => x.axes.indexOf(axis)))],
    attributes: { keepdims: boolean(rank === 'kept') },
  });
};

const clip: Lowering<'Clip'> = (node) => {
  const x = first(node);
  const { min, max } = node.attributes;
  const bound = (value: number | undefined) => (value === undefined ? null : scalar(x.type, value));
  return onnx(node, { inputs: [x, bound(min), bound(max)] });
};

const cast: Lowering<'Cast'> = (node) =>
  onnx(node, { attributes: { to: int(onnxDataType[node.attributes.to]) } });

const topK: Lowering<'TopK'> = (node) => {
  const x = first(node);
  const { axis, k, order } = node.attributes;
  return onnx(node, {
    inputs: [x, vector([k])],
    attributes: { axis: position(x, axis), largest: boolean(order === 'largest'), sorted: int(1) },
  });
};

const argMax: Lowering<'ArgMax'> = (node) =>
  onnx(node, { attributes: { axis: position(first(node), node.attributes.axis), keepdims: int(0) } });

const cumSum: Lowering<'CumSum'> = (node) => {
  const x = first(node);
  const { axis, direction } = node.attributes;
  return onnx(node, {
    inputs: [x, scalar('int64', x.axes.indexOf(axis))],
    attributes: { reverse: boolean(direction === 'reverse') },
  });
};

/** 0 copies the input's extent at the same place, -1 takes what is left; a shape that is only known at run time comes as an operand. */
const reshape: Lowering<'Reshape'> = (node) => {
  const x = first(node);
  const { axes, extents } = node.attributes;
  const shape = extents.map((extent, at) => extent ?? (isCopied(x, axes, at) ? 0 : -1));
  return onnx(node, { inputs: [x, node.inputs[1] ?? vector(shape)] });
};

const transpose: Lowering<'Transpose'> = (node) => {
  const x = first(node);
  return onnx(node, { attributes: { perm: ints(node.attributes.axes.map((axis) => x.axes.indexOf(axis))) } });
};

const squeeze: Lowering<'Squeeze'> = (node) => {
  const x = first(node);
  return onnx(node, { inputs: [x, vector(addedPositions(node.attributes.axes, x.axes))] });
};

const unsqueeze: Lowering<'Unsqueeze'> = (node) => {
  const x = first(node);
  return onnx(node, { inputs: [x, vector(addedPositions(x.axes, node.attributes.axes))] });
};

const split: Lowering<'Split'> = (node) => {
  const x = first(node);
  const { axis, extents } = node.attributes;
  return onnx(node, { inputs: [x, vector(extents)], attributes: { axis: position(x, axis) } });
};

const slice: Lowering<'Slice'> = (node) => {
  const [x, from, to] = node.inputs;
  return onnx(node, { inputs: [x!, from!, to!, vector([x!.axes.indexOf(node.attributes.axis)])] });
};

const constantOfShape: Lowering<'ConstantOfShape'> = (node) => {
  const { type, value } = node.attributes;
  const literal: Literal = { type, shape: [1], data: encodeLiteral[type]([value]) };
  return onnx(node, { attributes: { value: { kind: 'tensor', value: literal } } });
};

/** The extent as a plain tensor of one element; 'off' and 'on' values beside each other. */
const oneHot: Lowering<'OneHot'> = (node) => {
  const { extent, type } = node.attributes;
  const values: Literal = { type, shape: [2], data: encodeLiteral[type]([0, 1]) };
  return onnx(node, {
    inputs: [first(node), scalar('int64', extent), values],
    attributes: { axis: int(-1) },
  });
};

const trilu: Lowering<'Trilu'> = (node) => {
  const { triangle, k } = node.attributes;
  return onnx(node, {
    inputs: [first(node), scalar('int64', k)],
    attributes: { upper: boolean(triangle === 'upper') },
  });
};

const randomUniformLike: Lowering<'RandomUniformLike'> = (node) => {
  const { type, low, high, seed } = node.attributes;
  return onnx(node, {
    attributes: { dtype: int(onnxDataType[type]), low: float(low), high: float(high), seed: float(seed) },
  });
};

const reductionName = (reduction: ScatterReduction) => ({ reduction: string(reduction) });

const quantize = (node: Node<'QuantizeLinear' | 'DequantizeLinear'>): OnnxNode => {
  const [x, scale] = node.inputs;
  const [axis] = scale!.axes;
  return onnx(node, { attributes: axis === undefined ? {} : { axis: position(x!, axis) } });
};

const fusedMatMul: Lowering<'FusedMatMul'> = (node) => {
  const { left, right, alpha } = node.attributes;
  return microsoft(node, {
    attributes: {
      transA: boolean(left === 'transposed'),
      transB: boolean(right === 'transposed'),
      alpha: float(alpha),
    },
  });
};

const matMulNBits: Lowering<'MatMulNBits'> = (node) => {
  const [x, blocks] = node.inputs;
  const { bits, block, accuracyLevel } = node.attributes;
  return microsoft(node, {
    attributes: {
      K: int(x!.extents.at(-1)!),
      N: int(blocks!.extents[0]!),
      bits: int(bits),
      block_size: int(block),
      accuracy_level: int(accuracyLevel),
    },
  });
};

const gatherBlockQuantized: Lowering<'GatherBlockQuantized'> = (node) => {
  const { bits, block } = node.attributes;
  return microsoft(node, {
    attributes: { bits: int(bits), block_size: int(block), gather_axis: int(0), quantize_axis: int(1) },
  });
};

const lowerings: { readonly [K in OpKind]: Lowering<K> } = {
  Neg: plain,
  Sqrt: plain,
  Reciprocal: plain,
  Exp: plain,
  Log: plain,
  Sigmoid: plain,
  Tanh: plain,
  Erf: plain,
  Softplus: plain,
  Abs: plain,
  Sign: plain,
  Not: plain,
  IsNaN: plain,
  IsInf: plain,
  Clip: clip,
  Cast: cast,
  Identity: plain,
  Gelu: fused,
  QuickGelu: (node) => microsoft(node, { attributes: { alpha: float(node.attributes.alpha) } }),
  Add: plain,
  Sub: plain,
  Mul: plain,
  Div: plain,
  Pow: plain,
  Min: plain,
  Max: plain,
  Equal: plain,
  Less: plain,
  LessOrEqual: plain,
  Greater: plain,
  GreaterOrEqual: plain,
  And: plain,
  Or: plain,
  Where: plain,
  BiasGelu: fused,
  FastGelu: fused,
  ReduceSum: reduce,
  ReduceMean: reduce,
  ReduceMax: reduce,
  ReduceL2: reduce,
  ReduceSumSquare: reduce,
  Softmax: along,
  LogSoftmax: along,
  ArgMax: argMax,
  TopK: topK,
  CumSum: cumSum,
  Reshape: reshape,
  Transpose: transpose,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Expand: plain,
  Concat: (node) => onnx(node, { attributes: { axis: int(node.attributes.position) } }),
  Split: split,
  Slice: slice,
  Shape: (node) =>
    onnx(node, { attributes: { start: int(node.attributes.start), end: int(node.attributes.end) } }),
  ConstantOfShape: constantOfShape,
  Range: plain,
  OneHot: oneHot,
  Trilu: trilu,
  RandomUniformLike: randomUniformLike,
  Gather: along,
  GatherElements: along,
  GatherND: (node) => onnx(node, { attributes: { batch_dims: int(node.attributes.batchAxes) } }),
  ScatterElements: (node) =>
    onnx(node, {
      attributes: {
        axis: position(first(node), node.attributes.axis),
        ...reductionName(node.attributes.reduction),
      },
    }),
  ScatterND: (node) => onnx(node, { attributes: reductionName(node.attributes.reduction) }),
  MatMul: plain,
  FusedMatMul: fusedMatMul,
  MatMulNBits: matMulNBits,
  GatherBlockQuantized: gatherBlockQuantized,
  QuantizeLinear: quantize,
  DequantizeLinear: quantize,
  ...transformerLowerings,
};

export const lower = (node: Node): OnnxNode => (lowerings[node.kind] as Lowering<OpKind>)(node);
