/** Derivatives of the elementwise ops. Broadcast operands are handled by the walk. */

import type { Axes, FloatType, Value } from '../../../models/graph/ir.js';
import type { BinaryAttributes, UnaryAttributes } from '../../../models/graph/op-attributes.js';
import * as op from '../../../models/graph/ops.js';
import { binary, constant, type DerivativesOf, input, single, unary } from '../vjp.js';

/** Rules work on values of any float type; the table's callers are checked by the graph's own rules when nodes are made. */
type Float = Value<FloatType, Axes>;
const float = (value: Value): Float => value as Float;

const SQRT_2_OVER_PI = Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;

/** d gelu_new(z) / dz */
function fastGeluSlope(z: Float): Float {
  const square = op.mul(z, z);
  const inner = op.mul(op.mul(z, op.add(op.mul(square, CUBIC), 1)), SQRT_2_OVER_PI);
  const tanh = op.tanh(inner);
  const sech2 = op.sub(1, op.mul(tanh, tanh));
  const innerSlope = op.mul(op.add(op.mul(square, 3 * CUBIC), 1), SQRT_2_OVER_PI);
  return op.mul(op.add(op.add(tanh, 1), op.mul(op.mul(z, sech2), innerSlope)), 0.5);
}

/** d gelu(z) / dz = Phi(z) + z phi(z) */
function geluSlope(z: Float): Float {
  const cdf = op.mul(op.add(op.erf(op.mul(z, Math.SQRT1_2)), 1), 0.5);
  const density = op.mul(op.exp(op.mul(op.mul(z, z), -0.5)), 1 / Math.sqrt(2 * Math.PI));
  return op.add(cdf, op.mul(z, density));
}

const zeros = (g: Value): Value => g.graph.constant(g.type, 0, []);
const scaled = (x: Float, factor: number): Float => (factor === 1 ? x : op.mul(x, factor));
const times = (g: Value, slope: Value): Value => op.mul(g, slope);

/** Share of the cotangent that goes to `winner`: 1 where it is larger, 1/2 on a tie as in PyTorch, 0 elsewhere. */
const share = (winner: Value, loser: Value): Value =>
  op.add(op.mul(op.sign(op.sub(winner, loser)), 0.5), 0.5);

export const unaryDerivatives: DerivativesOf<UnaryAttributes> = {
  Neg: unary((g) => op.neg(g)),
  Sqrt: unary((g, _, y) => op.div(op.mul(g, 0.5), y)),
  Reciprocal: unary((g, _, y) => op.neg(op.mul(g, op.mul(y, y)))),
  Exp: unary((g, _, y) => op.mul(g, y)),
  Log: unary((g, x) => op.div(g, x)),
  Sigmoid: unary((g, _, y) => op.mul(g, op.mul(y, op.sub(1, y)))),
  Tanh: unary((g, _, y) => op.mul(g, op.sub(1, op.mul(y, y)))),
  Erf: unary((g, x) => times(g, op.mul(op.exp(op.neg(op.mul(float(x), float(x)))), 2 / Math.sqrt(Math.PI)))),
  Softplus: unary((g, x) => times(g, op.sigmoid(float(x)))),
  Abs: unary((g, x) => op.mul(g, op.sign(x))),
  Gelu: unary((g, x) => times(g, geluSlope(float(x)))),
  // y = x s with s = sigmoid(alpha x): dy/dx = s + alpha y (1 - s).
  QuickGelu: unary((g, x, y, { attributes: { alpha } }) => {
    const gate = op.sigmoid(scaled(float(x), alpha));
    return times(g, op.add(gate, scaled(float(op.mul(y, op.sub(1, gate))), alpha)));
  }),
  Clip: unary((g, x, _, { attributes: { min, max } }) => {
    const above = min === undefined ? g : op.where(op.greaterOrEqual(x, min), g, zeros(g));
    return max === undefined ? above : op.where(op.lessOrEqual(x, max), above, zeros(g));
  }),
  Cast: single((g, node) => {
    const { type } = input(node, 0);
    return [type === 'float32' || type === 'float16' || type === 'bfloat16' ? op.cast(g, type) : null];
  }),
  Identity: unary((g, x) => g.graph.emit('Identity', [g], { axes: x.axes })[0]!),
  Sign: constant,
  Not: constant,
  IsNaN: constant,
  IsInf: constant,
};

export const binaryDerivatives: DerivativesOf<BinaryAttributes> = {
  Add: binary((g) => [g, g]),
  Sub: binary((g) => [g, op.neg(g)]),
  Mul: binary((g, left, right) => [op.mul(g, right), op.mul(g, left)]),
  Div: binary((g, _, right, y) => {
    const scaled = op.div(g, right);
    return [scaled, op.neg(op.mul(scaled, y))];
  }),
  Pow: binary((g, base, exponent, y) => [
    op.mul(g, op.mul(exponent, op.pow(base, op.sub(exponent, 1)))),
    op.mul(g, op.mul(y, op.log(float(base)))),
  ]),
  Min: binary((g, left, right) => [op.mul(g, share(right, left)), op.mul(g, share(left, right))]),
  Max: binary((g, left, right) => [op.mul(g, share(left, right)), op.mul(g, share(right, left))]),
  Where: single((g, node) => {
    const condition = input(node, 0) as Value<'bool', Axes>;
    return [null, op.where(condition, g, zeros(g)), op.where(condition, zeros(g), g)];
  }),
  BiasGelu: binary((g, x, bias) => {
    const flow = times(g, geluSlope(float(op.add(x, bias))));
    return [flow, flow];
  }),
  FastGelu: single((g, node) => {
    const x = input(node, 0);
    const bias = node.inputs[1] ?? null;
    const flow = times(g, fastGeluSlope(float(bias === null ? x : op.add(x, bias))));
    return bias === null ? [flow] : [flow, flow];
  }),
  Equal: constant,
  Less: constant,
  LessOrEqual: constant,
  Greater: constant,
  GreaterOrEqual: constant,
  And: constant,
  Or: constant,
};
