/** Derivatives of ops that read and write by index: what was read is added back where it was. */
import type { Axes, Value } from '../../../models/graph/ir.js';
import type { GatherAttributes } from '../../../models/graph/op-attributes.js';
import * as op from '../../../models/graph/ops.js';
import { type DerivativesOf, input, refused, single } from '../vjp.js';

type Indices = Value<'int64', Axes>;
const zerosLike = (x: Value): Value => op.fullLike(x, x.type, 0);
const coordinates = (indices: Value): Indices =>
  op.unsqueeze(op.cast(indices, 'int64'), [...indices.axes, '1']) as Indices;

export const gatherDerivatives: DerivativesOf<GatherAttributes> = {
  Gather: single((g, node) => {
    const x = input(node, 0);
    const indices = input(node, 1);
    const { axis } = node.attributes;
    const at = x.axes.indexOf(axis);
    if (at === 0) return [op.scatterND(zerosLike(x), coordinates(indices), g, 'add'), null];
    // Scatter works on the outermost axis: bring it there and back.
    const outer = [axis, ...x.axes.filter((name) => name !== axis)];
    const rows = [...indices.axes, ...outer.slice(1)];
    const target = x.graph.emit('Transpose', [zerosLike(x)], { axes: outer })[0]!;
    const updates = x.graph.emit('Transpose', [g], { axes: rows })[0]!;
    const summed = op.scatterND(target, coordinates(indices), updates, 'add');
    return [x.graph.emit('Transpose', [summed], { axes: x.axes })[0]!, null];
  }),
  GatherElements: single((g, node) => {
    const x = input(node, 0);
    const indices = input(node, 1) as Indices;
    return [
      op.scatterElements(zerosLike(x), indices, g, { axis: node.attributes.axis, reduction: 'add' }),
      null,
    ];
  }),
  GatherND: single((g, node) => {
    const x = input(node, 0);
    if (node.attributes.batchAxes > 0)
      throw new Error(
        'GatherND with batch axes has no derivative: merge the batch axes into the coordinates',
      );
    return [op.scatterND(zerosLike(x), input(node, 1) as Indices, g, 'add'), null];
  }),
  ScatterElements: refused('gatherElements in the forward pass; a scatter is what its derivative makes'),
  ScatterND: refused('gatherND in the forward pass; a scatter is what its derivative makes'),
};
