/** Derivatives of ops that move, cut and join axes. */
import type { Axes, Value } from '../../../models/graph/ir.js';
import type { ShapeAttributes } from '../../../models/graph/op-attributes.js';
import * as op from '../../../models/graph/ops.js';
import { constant, type DerivativesOf, input, single, unary } from '../vjp.js';

type Bound = Value<'int64', readonly ['1']>;

const zerosLike = (x: Value): Value => op.fullLike(x, x.type, 0);

export const shapeDerivatives: DerivativesOf<ShapeAttributes> = {
  Reshape: unary((g, x) => op.reshapeLike(g, x)),
  Transpose: unary((g, x) => g.graph.emit('Transpose', [g], { axes: x.axes })[0]!),
  Squeeze: unary((g, x) => op.unsqueeze(g, x.axes)),
  Unsqueeze: unary((g, x) => op.squeeze(g, x.axes)),
  // What was repeated is summed by the walk, which knows x's axes.
  Expand: single((g) => [g, null]),
  Concat: single((g, node) => {
    const { position, as } = node.attributes;
    let from: op.Bound = 0;
    return node.inputs.map((_, at) => {
      const part = input(node, at);
      const axis = part.axes[position]!;
      const to: op.Bound = advance(from, part, axis);
      const flow = op.slice(g, as, { from, to, as: axis });
      from = to;
      return flow;
    });
  }),
  Split: {
    form: 'vjp',
    vjp: (node, cotangents) => {
      const { axis, into } = node.attributes;
      const parts = node.outputs.map((part, at) => cotangents[at] ?? zerosLike(part));
      return [op.concat(parts as [Value, ...Value[]], into[0]!, axis)];
    },
  },
  Slice: single((g, node) => {
    const x = input(node, 0);
    const { axis } = node.attributes;
    const [from, to] = [input(node, 1) as Bound, input(node, 2) as Bound];
    const before = zerosLike(op.slice(x, axis, { from: 0, to: from, as: 'before' }));
    const after = zerosLike(op.slice(x, axis, { from: to, as: 'after' }));
    return [op.concat([before, g, after], 'before', axis), null, null];
  }),
  Trilu: unary((g, _, __, { attributes: { triangle, k } }) => op.trilu(g, triangle, k)),
  Shape: constant,
  ConstantOfShape: constant,
  Range: constant,
  OneHot: constant,
  RandomUniformLike: constant,
};

/** The bound after `part`: a number while all extents so far are known, a value of the graph from then on. */
function advance(from: op.Bound, part: Value<Value['type'], Axes>, axis: string): op.Bound {
  const extent = part.extents[part.axes.indexOf(axis)] ?? null;
  if (typeof from === 'number' && extent !== null) return from + extent;
  const start = typeof from === 'number' ? part.graph.constant('int64', [from], ['1']) : from;
  return op.add(start, op.extentValue(part, axis));
}
