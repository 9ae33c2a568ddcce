/** Ops that ONNX Runtime has fused for transformers: norms, rotary positions, attention over a KV cache. */
import { emitOne } from '../axes.js';
import type { Axes, FloatType, Value } from '../ir.js';
import type { RotaryLayout, TransformerAttributes } from '../op-attributes.js';

/** (x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis. */
export const layerNorm = <E extends FloatType, L extends Axes, K extends string>(
  x: Value<E, readonly [...L, K]>,
  scale: Value<NoInfer<E>, readonly [NoInfer<K>]>,
  bias: Value<NoInfer<E>, readonly [NoInfer<K>]> | null,
  epsilon: number,
): Value<E, readonly [...L, K]> => emitOne(x.graph, 'LayerNormalization', [x, scale, bias], { epsilon });

/** RMS norm: x / sqrt(mean(x^2) + epsilon) * scale over the last axis (Zhang and Sennrich 2019). */
export const rmsNorm = <E extends FloatType, L extends Axes, K extends string>(
  x: Value<E, readonly [...L, K]>,
  scale: Value<NoInfer<E>, readonly [NoInfer<K>]>,
  epsilon: number,
): Value<E, readonly [...L, K]> => emitOne(x.graph, 'SimplifiedLayerNormalization', [x, scale], { epsilon });

/** A norm of x + skip, and the sum itself: the residual stream of a pre-norm block. */
export interface SkipNorm<E extends FloatType, A extends Axes> {
  readonly normed: Value<E, A>;
  readonly sum: Value<E, A>;
}

const skipNorm = <E extends FloatType, A extends Axes>(
  kind: 'SkipLayerNormalization' | 'SkipSimplifiedLayerNormalization',
  inputs: readonly (Value | null)[],
  epsilon: number,
): SkipNorm<E, A> => {
  const [normed, , , sum] = inputs[0]!.graph.emit(kind, inputs, { epsilon });
  return { normed: normed as Value<E, A>, sum: sum as Value<E, A> };
};

/** x, skip [rows, time, k]; `bias` (of the product that made skip) joins the sum. */
export const skipLayerNorm = <E extends FloatType, A extends readonly [string, string, string]>(
  x: Value<E, A>,
  skip: Value<NoInfer<E>, NoInfer<A>>,
  weights: {
    readonly scale: Value<E, readonly [NoInfer<A[2]>]>;
    readonly shift: Value<E, readonly [NoInfer<A[2]>]> | null;
    readonly bias?: Value<E, readonly [NoInfer<A[2]>]>;
  },
  epsilon: number,
): SkipNorm<E, A> =>
  skipNorm('SkipLayerNormalization', [x, skip, weights.scale, weights.shift, weights.bias ?? null], epsilon);

/** The same with an RMS norm. */
export const skipRmsNorm = <E extends FloatType, A extends readonly [string, string, string]>(
  x: Value<E, A>,
  skip: Value<NoInfer<E>, NoInfer<A>>,
  scale: Value<NoInfer<E>, readonly [NoInfer<A[2]>]>,
  epsilon: number,
): SkipNorm<E, A> => skipNorm('SkipSimplifiedLayerNormalization', [x, skip, scale], epsilon);

/** x [rows, heads, time, head] rotated by position; caches [positions, head / 2]. */
export const rotaryEmbedding = <E extends FloatType, A extends readonly [string, string, string, string]>(
  x: Value<E, A>,
  positions: Value<'int64', readonly [NoInfer<A[0]>, NoInfer<A[2]>]>,
  cosine: Value<NoInfer<E>, readonly [string, string]>,
  sine: Value<NoInfer<E>, readonly [string, string]>,
  layout: RotaryLayout = 'halves',
): Value<E, A> => emitOne(x.graph, 'RotaryEmbedding', [x, positions, cosine, sine], { layout });

type Kv<E extends FloatType, R extends string, P extends string> = Value<E, readonly [R, string, P, string]>;

export interface GroupQueryOperands<
  E extends FloatType,
  R extends string,
  T extends string,
  P extends string,
> {
  /** [rows, time, heads head]; without key and value, all three in one: (heads + 2 kvHeads) head. */
  readonly query: Value<E, readonly [R, T, string]>;
  /** [rows, time, kvHeads head] */
  readonly key?: Value<E, readonly [R, T, string]>;
  readonly value?: Value<E, readonly [R, T, string]>;
  /** [rows, kvHeads, positions, head]; may share memory with the present tensors, whose axis then has the same name. */
  readonly pastKey: Kv<E, R, P>;
  readonly pastValue: Kv<E, R, P>;
  /** Index of each row's last position after this run. */
  readonly lastPosition: Value<'int32', readonly [R]>;
  /** Positions of the longest row after this run; in host memory. */
  readonly totalLength: Value<'int32', readonly []>;
  /** [positions, head / 2], where `rotary` is not 'none'. */
  readonly cosine?: Value<E, readonly [string, string]>;
  readonly sine?: Value<E, readonly [string, string]>;
  readonly positions?: Value<'int64', readonly [R, T]>;
  /** Added to the scores: [rows or 1, heads or 1, time, total]. */
  readonly scoreBias?: Value<E, readonly [string, string, T, string]>;
  /** [heads] */
  readonly sink?: Value<E, readonly [string]>;
  /** [head]: RMS norms of each head before the rotation (Qwen 3). ONNX Runtime 1.30 has them on CUDA alone. */
  readonly queryNorm?: Value<E, readonly [string]>;
  readonly keyNorm?: Value<E, readonly [string]>;
}

type GroupQueryOptions<N extends string, P extends string> = Pick<
  TransformerAttributes['GroupQueryAttention'],
  'heads' | 'kvHeads'
> &
  Partial<TransformerAttributes['GroupQueryAttention']> & { readonly axis: N; readonly present: P };

export interface Attended<
  E extends FloatType,
  R extends string,
  T extends string,
  N extends string,
  P extends string,
> {
  /** [rows, time, heads head] */
  readonly attended: Value<E, readonly [R, T, N]>;
  readonly presentKey: Kv<E, R, P>;
  readonly presentValue: Kv<E, R, P>;
}

const attendedOf = <
  E extends FloatType,
  R extends string,
  T extends string,
  N extends string,
  P extends string,
>(
  outputs: readonly Value[],
): Attended<E, R, T, N, P> => {
  const [attended, presentKey, presentValue] = outputs;
  return {
    attended: attended as Value<E, readonly [R, T, N]>,
    presentKey: presentKey as Kv<E, R, P>,
    presentValue: presentValue as Kv<E, R, P>,
  };
};

/** Causal attention of com.microsoft GroupQueryAttention; which runs it takes is in transformer/decoder.ts. */
export function groupQueryAttention<
  E extends FloatType,
  R extends string,
  T extends string,
  Past extends string,
  const N extends string,
  const P extends string,
>(of: GroupQueryOperands<E, R, T, Past>, options: GroupQueryOptions<N, P>): Attended<E, R, T, N, P> {
  const operands: readonly (Value | undefined)[] = [
    of.query,
    of.key,
    of.value,
    of.pastKey,
    of.pastValue,
    of.lastPosition,
    of.totalLength,
    of.cosine,
    of.sine,
    of.positions,
    of.scoreBias,
    of.sink,
    undefined, // scales of a quantised cache
    undefined,
    of.queryNorm,
    of.keyNorm,
  ];
  const inputs = operands.map((value) => value ?? null);
  const plain = { scale: null, rotary: 'none', window: null, softcap: null, normEpsilon: 1e-6 } as const;
  return attendedOf(of.query.graph.emit('GroupQueryAttention', inputs, { ...plain, ...options }));
}

export interface MultiHeadOperands<E extends FloatType, R extends string, T extends string> {
  /** [rows, time, heads head] */
  readonly query: Value<E, readonly [R, T, string]>;
  /** [rows, keys, heads head] */
  readonly key: Value<E, readonly [R, string, string]>;
  readonly value: Value<E, readonly [R, string, string]>;
  /** Of query, key and value, end to end. */
  readonly bias?: Value<E, readonly [string]>;
  /** 1 where a key may be seen: [rows, keys]. */
  readonly keyMask?: Value<'int32', readonly [R, string]>;
  /** Added to the scores: [rows or 1, heads or 1, time, total]. */
  readonly scoreBias?: Value<E, readonly [string, string, T, string]>;
  readonly pastKey?: Kv<E, R, string>;
  readonly pastValue?: Kv<E, R, string>;
}

/** Attention without grouped heads, over any keys. */
export function multiHeadAttention<
  E extends FloatType,
  R extends string,
  T extends string,
  const N extends string,
  const P extends string,
>(
  of: MultiHeadOperands<E, R, T>,
  options: { heads: number; axis: N; present: P; scale?: number; mask?: 'causal' | 'none' },
): Attended<E, R, T, N, P> {
  const { heads, axis, present, scale = null, mask = 'none' } = options;
  const operands = [of.query, of.key, of.value, of.bias, of.keyMask, of.scoreBias, of.pastKey, of.pastValue];
  const inputs = operands.map((value) => value ?? null);
  const attributes = { heads, axis, present, scale, mask };
  return attendedOf(of.query.graph.emit('MultiHeadAttention', inputs, attributes));
}
