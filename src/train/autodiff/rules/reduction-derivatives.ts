/** Derivatives of reductions and scans. */
import type { Axes, FloatType, Value } from '../../../models/graph/ir.js';
import type { ReductionAttributes } from '../../../models/graph/op-attributes.js';
import * as op from '../../../models/graph/ops.js';
import { constant, type DerivativesOf, input, single, unary } from '../vjp.js';

/** A reduced value with '1' in the place of each axis that went away. */
const kept = (value: Value, x: Value, axes: Axes): Value =>
  value.axes.length === x.axes.length
    ? value
    : op.unsqueeze(
        value,
        x.axes.map((axis) => (axes.includes(axis) ? '1' : axis)),
      );

/** Elements that one result is made of, as a scalar or one-element value of the float type. */
function elementCount(x: Value, axes: Axes): Value | number {
  const extents = axes.map((axis) => x.extents[x.axes.indexOf(axis)] ?? null);
  if (extents.every((extent) => extent !== null)) return extents.reduce((n, extent) => n * extent, 1);
  const counts = axes.map((axis) => op.squeeze(op.cast(op.extentValue(x, axis), x.type), []) as Value);
  return counts.reduce((product, count) => op.mul(product, count));
}

export const reductionDerivatives: DerivativesOf<ReductionAttributes> = {
  ReduceSum: unary((g, x, _, { attributes: { axes } }) => op.expandTo(kept(g, x, axes), x)),
  ReduceMean: unary((g, x, _, { attributes: { axes } }) => {
    const count = elementCount(x, axes);
    const scaled = typeof count === 'number' ? op.mul(g, 1 / count) : op.div(g, count);
    return op.expandTo(kept(scaled, x, axes), x);
  }),
  ReduceMax: unary((g, x, y, { attributes: { axes } }) => {
    const winners = op.cast(op.equal(x, kept(y, x, axes)) as Value, x.type);
    const ties = op.reduceSum(winners, axes, 'kept');
    return op.mul(winners, op.div(kept(g, x, axes), ties));
  }),
  ReduceL2: unary((g, x, y, { attributes: { axes } }) => op.mul(x, kept(op.div(g, y as Value), x, axes))),
  ReduceSumSquare: unary((g, x, _, { attributes: { axes } }) => op.mul(x, kept(op.mul(g, 2), x, axes))),
  Softmax: unary((g, _, y, { attributes: { axis } }) => {
    const flow = op.mul(g, y);
    return op.sub(flow, op.mul(y, op.reduceSum(flow, [axis], 'kept')));
  }),
  LogSoftmax: unary((g, _, y, { attributes: { axis } }) =>
    op.sub(g, op.mul(op.exp(y as Value<FloatType, Axes>) as Value, op.reduceSum(g, [axis], 'kept'))),
  ),
  CumSum: unary((g, _, __, { attributes: { axis, direction } }) =>
    op.cumSum(g, axis, direction === 'forward' ? 'reverse' : 'forward'),
  ),
  TopK: single((g, node) => {
    const x = input(node, 0);
    const indices = node.outputs[1] as Value<'int64', Axes>;
    const { axis } = node.attributes;
    return [op.scatterElements(op.fullLike(x, x.type, 0), indices, g, { axis, reduction: 'add' })];
  }),
  ArgMax: constant,
};
