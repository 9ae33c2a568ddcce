/** Derivatives of matrix products, by products that read their operands transposed in place. */
import type { Axes, FloatType, Value } from '../../../models/graph/ir.js';
import type { LinearAttributes } from '../../../models/graph/op-attributes.js';
import { binary, constant, type DerivativesOf, refused } from '../vjp.js';

type Float = Value<FloatType, Axes>;
type Side = 'plain' | 'transposed';

/** alpha op(x) op(y) without the static check of inner axes: the node's rule checks the names. */
const product = (x: Value, left: Side, y: Value, right: Side, alpha: number): Float =>
  x.graph.emit('FusedMatMul', [x, y], { left, right, alpha })[0] as Float;

/** Leading axes of x as one, so that a sum over all of them is one product. */
const asMatrix = (x: Value): Value => {
  if (x.axes.length <= 2) return x;
  const axes = [x.axes.slice(0, -1).join('*'), x.axes.at(-1)!];
  return x.graph.emit('Reshape', [x], { axes, extents: [null, x.extents.at(-1)!] })[0]!;
};

/**
 * y = alpha op(x) op(w). With g the cotangent: d op(x) = alpha g op(w)^T and d op(w) = alpha op(x)^T g; a transposed operand swaps the two
 * factors. A weight of two axes under more axes of x sums over all of these.
 */
function productDerivative(
  g: Value,
  x: Value,
  w: Value,
  left: Side,
  right: Side,
  alpha: number,
): [Value, Value] {
  const shared = w.axes.length === 2 && x.axes.length > 2;
  const dx =
    left === 'plain'
      ? product(g, 'plain', w, right === 'plain' ? 'transposed' : 'plain', alpha)
      : product(w, right, g, 'transposed', alpha);
  const [rows, flow] = shared ? [asMatrix(x), asMatrix(g)] : [x, g];
  const dw =
    right === 'plain'
      ? product(rows, left === 'plain' ? 'transposed' : 'plain', flow, 'plain', alpha)
      : product(flow, 'transposed', rows, left, alpha);
  return [dx, dw];
}

export const linearDerivatives: DerivativesOf<LinearAttributes> = {
  MatMul: binary((g, x, w) => productDerivative(g, x, w, 'plain', 'plain', 1)),
  FusedMatMul: binary((g, x, w, _, { attributes: { left, right, alpha } }) => {
    if (left === 'transposed' && w.axes.length === 2 && x.axes.length > 2)
      throw new Error(
        'a transposed left operand with batch axes needs a right operand with the same batch axes',
      );
    return productDerivative(g, x, w, left, right, alpha);
  }),
  MatMulNBits: refused('linear with float weights; quantised weights are for inference'),
  GatherBlockQuantized: refused('gather from a float table; quantised tables are for inference'),
  QuantizeLinear: refused('float weights; rounding has no derivative'),
  DequantizeLinear: constant,
};
