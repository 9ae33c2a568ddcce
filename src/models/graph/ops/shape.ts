/** Ops that move, cut and join axes, or make tensors from shapes. New axes take the extents that the builder has declared for their names. */
import { emitOne, type Permuted, type Replace } from '../axes.js';
import type { Axes, ElementType, Extent, IndexType, Value } from '../ir.js';
import type { ShapeAttributes } from '../op-attributes.js';
import { refuse } from '../rule.js';

/** Declared extent of a new axis; extent 1 of '1'. */
const declared = (x: Value, axis: string): Extent => {
  if (axis === '1') return 1;
  const extent = x.graph.extent(axis) ?? x.extents[x.axes.indexOf(axis)];
  return extent ?? null;
};

/** A reshape whose static axes are the caller's promise. */
function reshaped<E extends ElementType, B extends Axes>(x: Value<E, Axes>, axes: Axes): Value<E, B> {
  const known = axes.map((axis) => declared(x, axis));
  const open = known.indexOf(null);
  const size = x.extents.reduce<Extent>(
    (n, extent) => (n === null || extent === null ? null : n * extent),
    1,
  );
  const extents =
    open < 0 || known.indexOf(null, open + 1) >= 0 || size === null
      ? known
      : known.with(open, size / known.reduce<number>((n, extent) => n * (extent ?? 1), 1));
  return emitOne(x.graph, 'Reshape', [x], { axes, extents });
}

/**
 * Reads the elements in the same order under other axes. One axis may have an extent that nobody declared: it takes what is left.
 * `splitAxis` and `mergeAxes` say more to the compiler.
 */
export const reshape = <E extends ElementType, const B extends Axes>(
  x: Value<E, Axes>,
  axes: B,
): Value<E, B> => reshaped(x, axes);

/** Reads the elements in the same order under the axes and extents of `model`, however many of them are dynamic. */
export const reshapeLike = <E extends ElementType, B extends Axes>(
  x: Value<E, Axes>,
  model: Value<ElementType, B>,
): Value<E, B> => {
  const { axes, extents } = model;
  const dynamic = extents.filter((extent) => extent === null).length > 1;
  return emitOne(x.graph, 'Reshape', dynamic ? [x, shapeOf(model)] : [x], { axes, extents });
};

/** One axis into several, outermost first: `splitAxis(q, 'q', ['heads', 'head'])`. */
export const splitAxis = <
  E extends ElementType,
  A extends Axes,
  K extends A[number],
  const Into extends Axes,
>(
  x: Value<E, A>,
  axis: K,
  into: Into,
): Value<E, Replace<A, K, Into>> =>
  reshaped(
    x,
    x.axes.flatMap((name) => (name === axis ? into : [name])),
  );

/** Neighbouring axes into one: `mergeAxes(x, ['rows', 'time'], 'tokens')`. */
export function mergeAxes<
  E extends ElementType,
  A extends Axes,
  First extends A[number],
  const Rest extends readonly A[number][],
  const N extends string,
>(
  x: Value<E, A>,
  axes: readonly [First, ...Rest],
  as: N,
): Value<E, Replace<Replace<A, First, readonly [N]>, Rest[number], readonly []>> {
  const start = x.axes.indexOf(axes[0]);
  const gone: Axes = axes;
  if (start < 0 || gone.some((axis, at) => x.axes[start + at] !== axis))
    refuse(`[${axes.join(', ')}] are not neighbours in [${x.axes.join(', ')}]`, 'transpose first');
  const target = [...x.axes.slice(0, start), as, ...x.axes.slice(start + axes.length)];
  return reshaped(x, target);
}

/** The axes in another order. */
export const transpose = <E extends ElementType, A extends Axes, const B extends Axes>(
  x: Value<E, A>,
  axes: B & Permuted<A, B>,
): Value<E, B> => emitOne(x.graph, 'Transpose', [x], { axes });

/** Drops axes of extent 1 until `axes` are left. */
export const squeeze = <E extends ElementType, const B extends Axes>(
  x: Value<E, Axes>,
  axes: B,
): Value<E, B> => emitOne(x.graph, 'Squeeze', [x], { axes });

/** Adds axes of extent 1 so that the result has `axes`: `unsqueeze(mean, ['rows', '1', 'model'])`. */
export const unsqueeze = <E extends ElementType, const B extends Axes>(
  x: Value<E, Axes>,
  axes: B,
): Value<E, B> => emitOne(x.graph, 'Unsqueeze', [x], { axes });

/** Repeats x along its '1' and missing axes until it has the axes and extents of `model`. */
export const expandTo = <E extends ElementType, B extends Axes>(
  x: Value<E, Axes>,
  model: Value<ElementType, B>,
): Value<E, B> =>
  emitOne(x.graph, 'Expand', [x, shapeOf(model)], { axes: model.axes, extents: model.extents });

/** Laid end to end along `axis` of the first; the others may name that axis otherwise. `as` names the result's. */
export const concat = <E extends ElementType, A extends Axes, K extends A[number], const N extends string>(
  values: readonly [Value<E, A>, ...Value<NoInfer<E>, Axes>[]],
  axis: K,
  as: N,
): Value<E, Replace<A, K, readonly [N]>> =>
  emitOne(values[0].graph, 'Concat', values, { position: values[0].axes.indexOf(axis), as });

/** Cuts `axis` into parts of the declared extents: `const [q, k, v] = split(qkv, 'qkv', ['q', 'k', 'v'])`. */
export function split<
  E extends ElementType,
  A extends Axes,
  K extends A[number],
  const Into extends readonly string[],
>(
  x: Value<E, A>,
  axis: K,
  into: Into,
): { readonly [I in keyof Into]: Value<E, Replace<A, K, readonly [Into[I]]>> } {
  const extents = into.map(
    (name) =>
      x.graph.extent(name) ?? refuse(`no known extent for '${name}'`, "declare it in the builder's axes"),
  );
  return x.graph.emit('Split', [x], { axis, into, extents }) as unknown as {
    readonly [I in keyof Into]: Value<E, Replace<A, K, readonly [Into[I]]>>;
  };
}

/** One bound of a slice: a number (negative counts from the end), or an int64 value of one element. */
export type Bound = number | Value<'int64', readonly ['1']>;

const last = Number.MAX_SAFE_INTEGER;

/** Elements `from` up to `to` (default: the end) of one axis, which is called `as` from then on. */
export function slice<E extends ElementType, A extends Axes, K extends A[number], const N extends string>(
  x: Value<E, A>,
  axis: K,
  options: { from: Bound; to?: Bound; as: N },
): Value<E, Replace<A, K, readonly [N]>> {
  const { from, to = last, as } = options;
  const bound = (at: Bound) => (typeof at === 'number' ? x.graph.constant('int64', [at], ['1']) : at);
  const size = x.extents[x.axes.indexOf(axis)] ?? null;
  const extent = typeof from === 'number' && typeof to === 'number' ? span(size, from, to) : null;
  return emitOne(x.graph, 'Slice', [x, bound(from), bound(to)], { axis, as, extent });
}

/** Elements between two bounds of an axis; null where that depends on a dynamic extent. */
function span(size: Extent, from: number, to: number): Extent {
  if (size === null) return null;
  const clamp = (at: number) => Math.min(Math.max(at < 0 ? at + size : at, 0), size);
  return Math.max(clamp(to) - clamp(from), 0);
}

/** Extents of all axes, int64 [rank]. */
export const shapeOf = (x: Value<ElementType, Axes>): Value<'int64', readonly ['rank']> =>
  emitOne(x.graph, 'Shape', [x], { start: 0, end: x.axes.length });

/** The extent of one axis as an int64 value of one element. */
export function extentValue<A extends Axes>(
  x: Value<ElementType, A>,
  axis: NoInfer<A[number]>,
): Value<'int64', readonly ['1']> {
  const start = x.axes.indexOf(axis);
  if (start < 0) refuse(`no axis '${axis}' in [${x.axes.join(', ')}]`, 'name one of those axes');
  return emitOne(x.graph, 'Shape', [x], { start, end: start + 1 });
}

/** A tensor of one value with the axes of `model`. */
export const fullLike = <E extends ElementType, A extends Axes>(
  model: Value<ElementType, A>,
  type: E,
  value: number,
): Value<E, A> => {
  const { axes, extents } = model;
  return emitOne(model.graph, 'ConstantOfShape', [shapeOf(model)], { axes, extents, type, value });
};

/** 0, 1, ... up to `limit` (a scalar), along a new axis. */
export const range = <E extends IndexType | 'float32', const N extends string>(
  limit: Value<E, readonly []>,
  axis: N,
): Value<E, readonly [N]> => {
  const { graph, type } = limit;
  const extent = graph.extent(axis) ?? null;
  return emitOne(graph, 'Range', [graph.constant(type, 0, []), limit, graph.constant(type, 1, [])], {
    axis,
    extent,
  });
};

/** 1 where the new last axis equals the index, 0 elsewhere; the new axis's extent is the declared one. */
export const oneHot = <E extends ElementType, A extends Axes, const N extends string>(
  indices: Value<IndexType, A>,
  type: E,
  axis: N,
): Value<E, readonly [...A, N]> => {
  const extent =
    indices.graph.extent(axis) ?? refuse(`no known extent for '${axis}'`, "declare it in the builder's axes");
  return emitOne(indices.graph, 'OneHot', [indices], { axis, extent, type });
};

/** The last two axes' triangle from the k-th diagonal on; the rest becomes 0. */
export const trilu = <E extends ElementType, A extends Axes>(
  x: Value<E, A>,
  triangle: 'upper' | 'lower',
  k = 0,
): Value<E, A> => emitOne(x.graph, 'Trilu', [x], { triangle, k });

/** Uniform draws in the shape of x. The seed fixes the sequence of a session's runs, not each run. */
export const randomUniformLike = <E extends 'float32' | 'float16', A extends Axes>(
  x: Value<ElementType, A>,
  options: Omit<ShapeAttributes['RandomUniformLike'], 'type'> & { type: E },
): Value<E, A> => emitOne(x.graph, 'RandomUniformLike', [x], options);
