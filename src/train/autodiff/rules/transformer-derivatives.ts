/** Derivatives of norms and rotary positions; fused attention over a cache is for inference. */
import type { Axes, FloatType, Value } from '../../../models/graph/ir.js';
import type { TransformerAttributes } from '../../../models/graph/op-attributes.js';
import * as op from '../../../models/graph/ops.js';
import { type DerivativesOf, input, refused, single } from '../vjp.js';

type Float = Value<FloatType, Axes>;
const float = (value: Value): Float => value as Float;

/** Rows of x without their mean, and 1 / sqrt(variance + epsilon). */
function standardize(x: Float, epsilon: number): { centred: Float; scale: Float } {
  const axis = x.axes.at(-1)!;
  const centred = op.sub(x, float(op.reduceMean(x, [axis], 'kept')));
  const variance = op.reduceMean(op.mul(centred, centred), [axis], 'kept');
  return { centred, scale: float(op.reciprocal(op.sqrt(op.add(variance, epsilon)))) };
}

export const transformerDerivatives: DerivativesOf<TransformerAttributes> = {
  // With n = x_hat and h = g * weight: dx = s (h - mean(h) - n mean(h n)).
  LayerNormalization: single((g, node) => {
    const [x, weight] = [float(input(node, 0)), float(input(node, 1))];
    const axis = x.axes.at(-1)!;
    const { centred, scale } = standardize(x, node.attributes.epsilon);
    const normal = op.mul(centred, scale);
    const flow = float(op.mul(float(g), weight));
    const mean = op.reduceMean(flow, [axis], 'kept');
    const along = op.reduceMean(op.mul(flow, normal), [axis], 'kept');
    const dx = op.mul(op.sub(op.sub(flow, mean), op.mul(normal, along)), scale);
    return [dx, op.mul(float(g), normal), g];
  }),
  // The same without the mean: dx = s (h - n mean(h n)).
  SimplifiedLayerNormalization: single((g, node) => {
    const [x, weight] = [float(input(node, 0)), float(input(node, 1))];
    const axis = x.axes.at(-1)!;
    const square = op.reduceMean(op.mul(x, x), [axis], 'kept');
    const scale = float(op.reciprocal(op.sqrt(op.add(square, node.attributes.epsilon))));
    const normal = op.mul(x, scale);
    const flow = float(op.mul(float(g), weight));
    const along = op.reduceMean(op.mul(flow, normal), [axis], 'kept');
    return [op.mul(op.sub(flow, op.mul(normal, along)), scale), op.mul(float(g), normal)];
  }),
  // A rotation's transpose turns back: the same op with -sin.
  RotaryEmbedding: single((g, node) => {
    const [positions, cos, sin] = [input(node, 1), input(node, 2), input(node, 3)];
    const back = g.graph.emit('RotaryEmbedding', [g, positions, cos, op.neg(sin)], node.attributes)[0]!;
    return [back, null, null, null];
  }),
  SkipLayerNormalization: refused('add and layerNorm; ONNX Runtime fuses them where it can'),
  SkipSimplifiedLayerNormalization: refused('add and rmsNorm; ONNX Runtime fuses them where it can'),
  GroupQueryAttention: refused('attention of products and softmax: a cache has no derivative'),
  MultiHeadAttention: refused('attention of products and softmax'),
};
