import type { Node, OpKind, Value } from '../../models/graph/ir.js';

/**
 * What the derivative of an op can be. A vector-Jacobian product takes the cotangents of a node's outputs to those of its inputs. It may
 * return a cotangent that is still broadcast (with axes that the input lacks): the walk sums those away, once for all rules.
 */

/** Cotangent of each input in order; null where none is wanted or none flows. */
export type Cotangents = readonly (Value | null)[];

/**
 * @param node       the node of the forward pass; its values are there to read
 * @param cotangents one an output; null where nothing depends on that output
 */
export type Vjp<K extends OpKind = OpKind> = (node: Node<K>, cotangents: Cotangents) => Cotangents;

export type Derivative<K extends OpKind = OpKind> =
  | { readonly form: 'vjp'; readonly vjp: Vjp<K> }
  /** Piecewise constant, or no function of its inputs' values: nothing flows back. */
  | { readonly form: 'constant' }
  /** Refused, with what to use instead. */
  | { readonly form: 'refused'; readonly instead: string };

export type DerivativesOf<Kinds> = { readonly [K in keyof Kinds & OpKind]: Derivative<K> };

export const constant: Derivative = { form: 'constant' };
export const refused = (instead: string): Derivative => ({ form: 'refused', instead });

/** The rule of an op with one output. */
export const single = <K extends OpKind>(rule: (g: Value, node: Node<K>) => Cotangents): Derivative<K> => ({
  form: 'vjp',
  vjp: (node, [g]) => (g === null || g === undefined ? node.inputs.map(() => null) : rule(g, node)),
});

/** The rule of an op with one input and one output: x, y and the cotangent of y. */
export const unary = <K extends OpKind>(
  rule: (g: Value, x: Value, y: Value, node: Node<K>) => Value,
): Derivative<K> => single((g, node) => [rule(g, input(node, 0), node.outputs[0]!, node)]);

/** The rule of an op with two inputs and one output. */
export const binary = <K extends OpKind>(
  rule: (g: Value, left: Value, right: Value, y: Value, node: Node<K>) => Cotangents,
): Derivative<K> => single((g, node) => rule(g, input(node, 0), input(node, 1), node.outputs[0]!, node));

export function input(node: Node, at: number): Value {
  const value = node.inputs[at];
  if (value === null || value === undefined) throw new Error(`${node.name} has no operand ${at}`);
  return value;
}
