import { AppError } from '../../core/errors.js';
import type { GraphBuilder } from '../../models/graph/builder.js';
import {
  type AnyNode,
  type Axes,
  describe,
  type FloatType,
  type Node,
  type Value,
} from '../../models/graph/ir.js';
import * as op from '../../models/graph/ops.js';
import { derivatives } from './derivatives.js';
import { Recomputation, type SegmentOf } from './recompute.js';
import type { Cotangents, Derivative } from './vjp.js';

/**
 * Reverse-mode differentiation (Griewank and Walther 2008, chapter 3): appends to the builder the nodes that compute d loss / d x for each
 * x of `sources`, and returns those values, with the types and axes of their sources.
 *
 * One walk over the nodes in reverse order: a node whose outputs have cotangents, and whose inputs lead to a source, gives its inputs
 * theirs by its rule. Cotangents of a value with several uses are added; what a rule leaves broadcast is summed here.
 * @param loss scalar, float
 * @param segmentOf where given, what a segment's nodes computed is computed again when the walk gets there
 * @throws AppError `graph_invalid` where an op on the way has no derivative, or the loss does not depend on a source
 */
export function gradient<E extends FloatType>(
  builder: GraphBuilder,
  loss: Value<E, readonly []>,
  sources: readonly Value<E, Axes>[],
  segmentOf: SegmentOf = () => null,
): Value<E, Axes>[] {
  const nodes = [...builder.nodes];
  const active = leadingTo(nodes, sources);
  if (loss.axes.length > 0) throw invalid(loss, `a loss is a scalar, not ${describe(loss)}: reduce it first`);
  return builder.scope('gradient', () => {
    const pending = new Map<Value, Value>([[loss, builder.constant(loss.type, 1, [])]]);
    const again = new Recomputation(builder, segmentOf, nodes, (value) => active.has(value));
    for (const node of nodes.toReversed()) {
      if (!node.outputs.some((value) => pending.has(value) && active.has(value))) continue;
      for (const [at, cotangent] of propagate(node, pending, again).entries()) {
        const target = node.inputs[at] ?? null;
        if (cotangent === null || target === null || !active.has(target)) continue;
        const summed = sumBroadcast(cotangent, target);
        const before = pending.get(target);
        pending.set(target, before === undefined ? summed : op.add(before, summed));
      }
    }
    return sources.map((source) => {
      const found = pending.get(source);
      if (found === undefined) throw invalid(source, `the loss does not depend on ${source.name}`);
      const whole =
        found.axes.every((axis, at) => axis === source.axes[at]) && found.axes.length === source.axes.length;
      return (whole ? found : op.expandTo(found, source)) as Value<E, Axes>;
    });
  });
}

/** Values that depend on a source, the sources among them. */
function leadingTo(nodes: readonly AnyNode[], sources: readonly Value[]): ReadonlySet<Value> {
  const active = new Set<Value>(sources);
  for (const node of nodes)
    if (node.inputs.some((value) => value !== null && active.has(value)))
      for (const value of node.outputs) active.add(value);
  return active;
}

function propagate(node: AnyNode, pending: ReadonlyMap<Value, Value>, again: Recomputation): Cotangents {
  const derivative = derivatives[node.kind] as Derivative;
  if (derivative.form === 'constant') return [];
  if (derivative.form === 'refused')
    throw new AppError(
      'graph_invalid',
      `${node.name}: ${node.kind} has no derivative; use ${derivative.instead}`,
      { param: node.name },
    );
  const cotangents = node.outputs.map((value) => pending.get(value) ?? null);
  const twin = again.twinOf(node, cotangents.find((cotangent) => cotangent !== null)!);
  return derivative.vjp(twin as Node, cotangents);
}

/**
 * The transpose of a broadcast: sums over the axes of the cotangent that the operand lacks or has as '1'. A cotangent with fewer axes is
 * left to broadcast in what follows.
 */
function sumBroadcast(cotangent: Value, target: Value): Value {
  const missing = cotangent.axes.length - target.axes.length;
  if (missing < 0) return cotangent;
  const leading = cotangent.axes.slice(0, missing).filter((axis) => axis !== '1');
  const summed = missing > 0 ? squeezeLeading(cotangent, missing, leading) : cotangent;
  const stretched = summed.axes.filter((axis, at) => axis !== target.axes[at] && target.axes[at] === '1');
  return stretched.length === 0 ? summed : op.reduceSum(summed, stretched, 'kept');
}

function squeezeLeading(cotangent: Value, missing: number, leading: readonly string[]): Value {
  const summed = leading.length === 0 ? cotangent : op.reduceSum(cotangent, leading);
  const rest = cotangent.axes.slice(missing);
  return summed.axes.length === rest.length ? summed : op.squeeze(summed, rest);
}

const invalid = (value: Value, message: string) =>
  new AppError('graph_invalid', message, { param: value.name });
