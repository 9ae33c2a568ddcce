/** Arithmetic on axis names at the level of types: what the compiler knows of an op's result. */
import type { Axes, ElementType, NodeSink, OpAttributes, OpKind, Value } from './ir.js';

type Names<A extends Axes> = number extends A['length'] ? 'unknown' : 'known';

type Meet<L extends string, R extends string> = L extends R
  ? L
  : L extends '1'
    ? R
    : R extends '1'
      ? L
      : never;

/** Axes of a broadcast, aligned at the last one; never where two names differ; Axes where one side is not known. */
export type Broadcast<L extends Axes, R extends Axes> = 'unknown' extends Names<L> | Names<R>
  ? Axes
  : L extends readonly [...infer LI extends Axes, infer LL extends string]
    ? R extends readonly [...infer RI extends Axes, infer RL extends string]
      ? [Meet<LL, RL>] extends [never]
        ? never
        : readonly [...Broadcast<LI, RI>, Meet<LL, RL>]
      : L
    : R;

/** Asks nothing of a right operand whose axes line up with the left one's; else something no value has, so the call does not compile. */
export type Aligned<L extends Axes, R extends Axes> = [Broadcast<L, R>] extends [never]
  ? { readonly 'axes differ': readonly [L, R] }
  : unknown;

/** Every axis K replaced by the axes of Into. */
export type Replace<A extends Axes, K extends string, Into extends Axes> = A extends readonly [
  infer Head extends string,
  ...infer Tail extends Axes,
]
  ? Head extends K
    ? readonly [...Into, ...Replace<Tail, K, Into>]
    : readonly [Head, ...Replace<Tail, K, Into>]
  : A extends readonly []
    ? readonly []
    : Axes;

/** The axes renamed by a map from old to new names. */
export type Renamed<A extends Axes, M extends Readonly<Record<string, string>>> = {
  readonly [I in keyof A]: A[I] extends keyof M ? M[A[I]] : A[I];
};

/** A permutation of A, or never. */
export type Permuted<A extends Axes, B extends Axes> = [A[number], A['length']] extends [
  B[number],
  B['length'],
]
  ? B
  : never;

/** Appends a node of one result; its static type is the caller's promise, which the kind's rule checks when the graph is built. */
export function emitOne<E extends ElementType, A extends Axes, K extends OpKind = OpKind>(
  graph: NodeSink,
  kind: K,
  inputs: readonly (Value | null)[],
  attributes: OpAttributes[K],
): Value<E, A> {
  return graph.emit(kind, inputs, attributes)[0] as Value<E, A>;
}
