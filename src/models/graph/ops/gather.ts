/** Ops that read and write by index. */
import { emitOne, type Replace } from '../axes.js';
import type { Axes, ElementType, IndexType, Signature, Value } from '../ir.js';
import { describeAxes } from '../ir.js';
import type { GatherAttributes, ScatterReduction } from '../op-attributes.js';
import {
  axisAt,
  expectRank,
  expectType,
  meet,
  operand,
  type RulesOf,
  refuse,
  sameAxes,
  sameType,
  signature,
} from '../rule.js';

/** Whole rows by index: `gather(embedding, 'vocabulary', tokens)` puts the axes of tokens in the place of 'vocabulary'. */
export const gather = <E extends ElementType, A extends Axes, K extends A[number], I extends Axes>(
  x: Value<E, A>,
  axis: K,
  indices: Value<IndexType, I>,
): Value<E, Replace<A, K, I>> => emitOne(x.graph, 'Gather', [x, indices], { axis });

/** One element an index along `axis`; the other axes are those of x. */
export const gatherElements = <E extends ElementType, A extends Axes, I extends Axes>(
  x: Value<E, A>,
  axis: NoInfer<A[number]>,
  indices: Value<IndexType, I>,
): Value<E, I> => emitOne(x.graph, 'GatherElements', [x, indices], { axis });

/** The last axis of indices addresses axes of x after `batchAxes` shared ones; what is left of x follows. */
export const gatherND = <E extends ElementType>(
  x: Value<E, Axes>,
  indices: Value<'int64', Axes>,
  batchAxes = 0,
): Value<E, Axes> => emitOne(x.graph, 'GatherND', [x, indices], { batchAxes });

/** x with `updates` put, or added and so on, where `indices` say along `axis`. Equal indices: all are added, one of them is put. */
export const scatterElements = <E extends ElementType, A extends Axes, I extends Axes>(
  x: Value<E, A>,
  indices: Value<IndexType, I>,
  updates: Value<NoInfer<E>, NoInfer<I>>,
  options: { axis: NoInfer<A[number]>; reduction: ScatterReduction },
): Value<E, A> => emitOne(x.graph, 'ScatterElements', [x, indices, updates], options);

/** x with slices `updates` put, or added and so on, at the coordinates in the last axis of `indices`. */
export const scatterND = <E extends ElementType, A extends Axes>(
  x: Value<E, A>,
  indices: Value<'int64', Axes>,
  updates: Value<NoInfer<E>, Axes>,
  reduction: ScatterReduction,
): Value<E, A> => emitOne(x.graph, 'ScatterND', [x, indices, updates], { reduction });

/** Indices that take elements along one axis have the other axes of x. */
function expectElementIndices(x: Signature, indices: Signature, axis: string): void {
  expectType(indices, 'int64', 'int32');
  expectRank(indices, x.axes.length, `an index into ${describeAxes(x)}`);
  const position = axisAt(x, axis);
  for (const [at, name] of x.axes.entries()) {
    if (at === position) continue;
    if (indices.axes[at] !== name)
      refuse(`indices ${describeAxes(indices)} into ${describeAxes(x)}`, `keep all axes but '${axis}'`);
    meet(name, x.extents[at]!, indices.extents[at]!);
  }
}

/** Axes of x that coordinates of the last axis of indices do not address. */
function restAfter(x: Signature, indices: Signature, batchAxes: number): number {
  expectType(indices, 'int64');
  const depth = indices.extents.at(-1);
  if (depth === undefined || depth === null || batchAxes + depth > x.axes.length)
    refuse(
      `the last axis of indices ${describeAxes(indices)} must be a known number of coordinates into ${describeAxes(x)}`,
      'declare its extent',
    );
  return batchAxes + depth;
}

const gathered = (x: Signature, indices: Signature, batchAxes: number): Signature => {
  const rest = restAfter(x, indices, batchAxes);
  return signature(
    x.type,
    [...indices.axes.slice(0, -1), ...x.axes.slice(rest)],
    [...indices.extents.slice(0, -1), ...x.extents.slice(rest)],
  );
};

export const gatherRules: RulesOf<GatherAttributes> = {
  Gather: (inputs, { axis }) => {
    const x = operand(inputs, 0);
    const indices = operand(inputs, 1);
    expectType(indices, 'int64', 'int32');
    const at = axisAt(x, axis);
    return [
      signature(
        x.type,
        x.axes.toSpliced(at, 1, ...indices.axes),
        x.extents.toSpliced(at, 1, ...indices.extents),
      ),
    ];
  },
  GatherElements: (inputs, { axis }) => {
    const x = operand(inputs, 0);
    const indices = operand(inputs, 1);
    expectElementIndices(x, indices, axis);
    return [signature(x.type, indices.axes, indices.extents)];
  },
  GatherND: (inputs, { batchAxes }) => [gathered(operand(inputs, 0), operand(inputs, 1), batchAxes)],
  ScatterElements: (inputs, { axis }) => {
    const x = operand(inputs, 0);
    const indices = operand(inputs, 1);
    const updates = operand(inputs, 2);
    expectElementIndices(x, indices, axis);
    sameType(x, updates);
    sameAxes(indices, updates);
    return [signature(x.type, x.axes, x.extents)];
  },
  ScatterND: (inputs) => {
    const x = operand(inputs, 0);
    const updates = operand(inputs, 2);
    sameType(x, updates);
    sameAxes(gathered(x, operand(inputs, 1), 0), updates);
    return [signature(x.type, x.axes, x.extents)];
  },
};
