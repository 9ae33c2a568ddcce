/** Ops that fold or scan axes. Axes are named, so a reduction means the same whatever the order of the operand's axes. */
import { emitOne, type Replace } from '../axes.js';
import type { Axes, ElementType, FloatType, Value } from '../ir.js';
import type { Rank, ReductionAttributes } from '../op-attributes.js';
import { axisAt, expectType, operand, type Rule, type RulesOf, refuse, signature } from '../rule.js';

type Kept<R extends Rank> = R extends 'kept' ? readonly ['1'] : readonly [];

type Reduce<Types extends ElementType> = <
  E extends Types,
  A extends Axes,
  const K extends A[number],
  const R extends Rank = 'dropped',
>(
  x: Value<E, A>,
  axes: readonly K[],
  rank?: R,
) => Value<E, Replace<A, K, Kept<R>>>;

type AlongAxis = <E extends FloatType, A extends Axes>(
  x: Value<E, A>,
  axis: NoInfer<A[number]>,
) => Value<E, A>;

type Reductions = 'ReduceSum' | 'ReduceMean' | 'ReduceMax' | 'ReduceL2' | 'ReduceSumSquare';

const reduce =
  (kind: Reductions) =>
  (x: Value, axes: Axes, rank: Rank = 'dropped') =>
    emitOne(x.graph, kind, [x], { axes, rank });

/** Sums over the named axes; `rank` 'kept' leaves them as '1', ready to broadcast. */
export const reduceSum = reduce('ReduceSum') as Reduce<ElementType>;
export const reduceMean = reduce('ReduceMean') as Reduce<FloatType>;
export const reduceMax = reduce('ReduceMax') as Reduce<ElementType>;
export const reduceL2 = reduce('ReduceL2') as Reduce<FloatType>;
export const reduceSumSquare = reduce('ReduceSumSquare') as Reduce<ElementType>;

export const softmax: AlongAxis = (x, axis) => emitOne(x.graph, 'Softmax', [x], { axis });
export const logSoftmax: AlongAxis = (x, axis) => emitOne(x.graph, 'LogSoftmax', [x], { axis });

/** Index of the largest element; the lowest on a tie. */
export const argMax = <A extends Axes, K extends A[number]>(
  x: Value<ElementType, A>,
  axis: K,
): Value<'int64', Replace<A, K, readonly []>> => emitOne(x.graph, 'ArgMax', [x], { axis });

/** The k largest (smallest) elements in order, and where they were; `as` names the axis of k. */
export function topK<E extends ElementType, A extends Axes, K extends A[number], N extends string>(
  x: Value<E, A>,
  options: { axis: K; k: number; as: N; order?: 'largest' | 'smallest' },
): { values: Value<E, Replace<A, K, readonly [N]>>; indices: Value<'int64', Replace<A, K, readonly [N]>> } {
  const { axis, k, as, order = 'largest' } = options;
  const [values, indices] = x.graph.emit('TopK', [x], { axis, k, as, order });
  return {
    values: values as Value<E, Replace<A, K, readonly [N]>>,
    indices: indices as Value<'int64', Replace<A, K, readonly [N]>>,
  };
}

/** Running sum, each element included; 'reverse' runs from the end. */
export const cumSum = <E extends ElementType, A extends Axes>(
  x: Value<E, A>,
  axis: NoInfer<A[number]>,
  direction: 'forward' | 'reverse' = 'forward',
): Value<E, A> => emitOne(x.graph, 'CumSum', [x], { axis, direction });

const reduction =
  (...types: readonly ElementType[]): Rule<Reductions> =>
  (inputs, { axes, rank }) => {
    const x = operand(inputs, 0);
    expectType(x, ...types);
    if (axes.length === 0) refuse('no axis to reduce', 'name at least one');
    const gone = new Set(axes.map((axis) => axisAt(x, axis)));
    if (rank === 'kept')
      return [
        signature(
          x.type,
          x.axes.map((axis, at) => (gone.has(at) ? '1' : axis)),
          x.extents.map((extent, at) => (gone.has(at) ? 1 : extent)),
        ),
      ];
    const stays = (_: unknown, at: number) => !gone.has(at);
    return [signature(x.type, x.axes.filter(stays), x.extents.filter(stays))];
  };

const along: Rule<'Softmax' | 'LogSoftmax' | 'CumSum'> = (inputs, { axis }) => {
  const x = operand(inputs, 0);
  axisAt(x, axis);
  return [signature(x.type, x.axes, x.extents)];
};

const floats = ['float32', 'float16', 'bfloat16'] as const;

export const reductionRules: RulesOf<ReductionAttributes> = {
  ReduceSum: reduction(...floats, 'int64', 'int32'),
  ReduceMean: reduction(...floats),
  ReduceMax: reduction(...floats, 'int64', 'int32', 'int8', 'uint8'),
  ReduceL2: reduction(...floats),
  ReduceSumSquare: reduction(...floats, 'int32'),
  Softmax: along,
  LogSoftmax: along,
  CumSum: along,
  ArgMax: (inputs, { axis }) => {
    const x = operand(inputs, 0);
    const gone = axisAt(x, axis);
    const stays = (_: unknown, at: number) => at !== gone;
    return [signature('int64', x.axes.filter(stays), x.extents.filter(stays))];
  },
  TopK: (inputs, { axis, k, as }) => {
    const x = operand(inputs, 0);
    const position = axisAt(x, axis);
    const extent = x.extents[position]!;
    if (!Number.isInteger(k) || k < 1 || (extent !== null && k > extent))
      refuse(`k is ${k} of an axis '${axis}' of ${extent ?? 'dynamic'}`, 'take 1 to that many');
    const axes = x.axes.with(position, as);
    const extents = x.extents.with(position, k);
    return [signature(x.type, axes, extents), signature('int64', axes, extents)];
  },
};
