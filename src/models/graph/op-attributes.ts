import type { ElementType } from '../runtime/session.js';

/**
 * The vocabulary of the IR: every op kind with its attributes. Kinds and meanings are ONNX's (opset 18 and com.microsoft 1), except that
 * attributes name axes where ONNX counts positions; onnx.ts lowers names to positions. Tables over all kinds (rules, lowering, later the
 * derivative of each op) are checked against this interface, so a new row here does not compile until every table has it.
 */

/** An axis's number of elements; null where it is only known at run time. */
export type Extent = number | null;

/** Names of a value's axes, outermost first. The axis named '1' has extent 1 and stands for any axis in a broadcast. */
export type Axes = readonly string[];

/** Reduced axes either go away or stay with the name '1'. */
export type Rank = 'dropped' | 'kept';

type None = Readonly<Record<never, never>>;
interface OverAxis {
  readonly axis: string;
}
interface OverAxes {
  readonly axes: Axes;
  readonly rank: Rank;
}
interface Shaped {
  readonly axes: Axes;
  readonly extents: readonly Extent[];
}
interface Filled extends Shaped {
  readonly type: ElementType;
  readonly value: number;
}
interface Epsilon {
  readonly epsilon: number;
}
export type ScatterReduction = 'none' | 'add' | 'mul' | 'min' | 'max';

export interface UnaryAttributes {
  readonly Neg: None;
  readonly Sqrt: None;
  readonly Reciprocal: None;
  readonly Exp: None;
  readonly Log: None;
  readonly Sigmoid: None;
  readonly Tanh: None;
  readonly Erf: None;
  readonly Softplus: None;
  readonly Abs: None;
  readonly Sign: None;
  readonly Not: None;
  readonly IsNaN: None;
  readonly IsInf: None;
  readonly Clip: { readonly min?: number; readonly max?: number };
  readonly Cast: { readonly to: ElementType };
  /** Also renames axes, at no cost: ONNX Runtime removes it. */
  readonly Identity: { readonly axes: Axes };
  /** x Phi(x), exact by erf. */
  readonly Gelu: None;
  /** x sigmoid(alpha x); alpha 1 is SiLU. */
  readonly QuickGelu: { readonly alpha: number };
}

export interface BinaryAttributes {
  readonly Add: None;
  readonly Sub: None;
  readonly Mul: None;
  readonly Div: None;
  readonly Pow: None;
  readonly Min: None;
  readonly Max: None;
  readonly Equal: None;
  readonly Less: None;
  readonly LessOrEqual: None;
  readonly Greater: None;
  readonly GreaterOrEqual: None;
  readonly And: None;
  readonly Or: None;
  readonly Where: None;
  /** Gelu(x + bias), exact. */
  readonly BiasGelu: None;
  /** Gelu of x, or of x + bias, by the tanh approximation (gelu_new). */
  readonly FastGelu: None;
}

export interface ReductionAttributes {
  readonly ReduceSum: OverAxes;
  readonly ReduceMean: OverAxes;
  readonly ReduceMax: OverAxes;
  readonly ReduceL2: OverAxes;
  readonly ReduceSumSquare: OverAxes;
  readonly Softmax: OverAxis;
  readonly LogSoftmax: OverAxis;
  /** Lowest index on a tie. */
  readonly ArgMax: OverAxis;
  readonly TopK: {
    readonly axis: string;
    readonly k: number;
    readonly as: string;
    readonly order: 'largest' | 'smallest';
  };
  readonly CumSum: { readonly axis: string; readonly direction: 'forward' | 'reverse' };
}

export interface ShapeAttributes {
  readonly Reshape: Shaped;
  readonly Transpose: { readonly axes: Axes };
  readonly Squeeze: { readonly axes: Axes };
  readonly Unsqueeze: { readonly axes: Axes };
  readonly Expand: Shaped;
  readonly Concat: { readonly position: number; readonly as: string };
  readonly Split: { readonly axis: string; readonly into: Axes; readonly extents: readonly number[] };
  readonly Slice: {
    readonly axis: string;
    readonly as: string;
    readonly extent: Extent;
  };
  /** Extents of the axes from `start` up to `end`. */
  readonly Shape: { readonly start: number; readonly end: number };
  readonly ConstantOfShape: Filled;
  readonly Range: { readonly axis: string; readonly extent: Extent };
  readonly OneHot: {
    readonly axis: string;
    readonly extent: number;
    readonly type: ElementType;
  };
  /** Keeps the triangle on and above (below) the k-th diagonal of the last two axes. */
  readonly Trilu: { readonly triangle: 'upper' | 'lower'; readonly k: number };
  readonly RandomUniformLike: {
    readonly type: ElementType;
    readonly low: number;
    readonly high: number;
    readonly seed: number;
  };
}

export interface GatherAttributes {
  readonly Gather: OverAxis;
  readonly GatherElements: OverAxis;
  readonly GatherND: { readonly batchAxes: number };
  readonly ScatterElements: { readonly axis: string; readonly reduction: ScatterReduction };
  readonly ScatterND: { readonly reduction: ScatterReduction };
}

export interface LinearAttributes {
  readonly MatMul: None;
  readonly FusedMatMul: {
    readonly left: 'plain' | 'transposed';
    readonly right: 'plain' | 'transposed';
    readonly alpha: number;
  };
  /** B is [n, k / block, bytes a block]: unsigned values around 2^(bits-1), or around `zero_points`. */
  readonly MatMulNBits: {
    readonly bits: 4 | 8;
    readonly block: number;
    /** Arithmetic of the CPU's kernel: 0 = that of the activations, 4 = int8 (they are quantised a block at a time). */
    readonly accuracyLevel: 0 | 4;
  };
  readonly GatherBlockQuantized: {
    readonly bits: 4 | 8;
    readonly block: number;
    /** The table's last axis, once unpacked. */
    readonly axis: string;
    readonly extent: number;
  };
  readonly QuantizeLinear: { readonly to: 'int8' | 'uint8' };
  readonly DequantizeLinear: None;
}

export interface TransformerAttributes {
  readonly LayerNormalization: Epsilon;
  readonly SimplifiedLayerNormalization: Epsilon;
  readonly SkipLayerNormalization: Epsilon;
  readonly SkipSimplifiedLayerNormalization: Epsilon;
  readonly RotaryEmbedding: { readonly layout: RotaryLayout };
  readonly GroupQueryAttention: {
    readonly heads: number;
    readonly kvHeads: number;
    /** Names of the output's last axis and of the present keys' position axis. */
    readonly axis: string;
    readonly present: string;
    /** null: 1 / sqrt(head). */
    readonly scale: number | null;
    readonly rotary: RotaryLayout | 'none';
    /** Positions a query sees, itself included; null: all before it. */
    readonly window: number | null;
    /** Scores become softcap * tanh(score / softcap); null: off. */
    readonly softcap: number | null;
    /** Of q_norm_weight and k_norm_weight, where they are given. */
    readonly normEpsilon: number;
  };
  readonly MultiHeadAttention: {
    readonly heads: number;
    readonly axis: string;
    readonly present: string;
    readonly scale: number | null;
    readonly mask: 'causal' | 'none';
  };
}

/** `halves` rotates element i with i + head/2 (Hugging Face's Llama), `interleaved` rotates 2i with 2i + 1. */
export type RotaryLayout = 'halves' | 'interleaved';

export interface OpAttributes
  extends UnaryAttributes,
    BinaryAttributes,
    ReductionAttributes,
    ShapeAttributes,
    GatherAttributes,
    LinearAttributes,
    TransformerAttributes {}

export type OpKind = keyof OpAttributes;
