/** Lowering of the ops of ops/transformer.ts. Attributes that stay at ONNX's default are left out. */
import type { Node } from './ir.js';
import { boolean, float, int, type Lowering, microsoft, type OnnxNode, onnx } from './onnx-node.js';
import type { TransformerAttributes } from './op-attributes.js';

/** Over the last axis. The statistics are float32 whatever the type (stash_type 1, ONNX's default). */
const norm = (node: Node<'LayerNormalization' | 'SimplifiedLayerNormalization'>): OnnxNode =>
  onnx(node, { attributes: { axis: int(-1), epsilon: float(node.attributes.epsilon) }, required: 1 });

const skipNorm = (node: Node<'SkipLayerNormalization' | 'SkipSimplifiedLayerNormalization'>): OnnxNode =>
  microsoft(node, { attributes: { epsilon: float(node.attributes.epsilon) }, required: 1 });

const rotary: Lowering<'RotaryEmbedding'> = (node) =>
  microsoft(node, { attributes: { interleaved: boolean(node.attributes.layout === 'interleaved') } });

const groupQuery: Lowering<'GroupQueryAttention'> = (node) => {
  const { heads, kvHeads, scale, rotary, window, softcap, normEpsilon } = node.attributes;
  const normed = Boolean(node.inputs[14] ?? node.inputs[15]);
  return microsoft(node, {
    attributes: {
      num_heads: int(heads),
      kv_num_heads: int(kvHeads),
      do_rotary: boolean(rotary !== 'none'),
      rotary_interleaved: boolean(rotary === 'interleaved'),
      ...(scale !== null && { scale: float(scale) }),
      ...(window !== null && { local_window_size: int(window) }),
      ...(softcap !== null && { softcap: float(softcap) }),
      ...(normed && { qk_norm_epsilon: float(normEpsilon) }),
    },
    required: 1,
  });
};

const multiHead: Lowering<'MultiHeadAttention'> = (node) => {
  const { heads, scale, mask } = node.attributes;
  return microsoft(node, {
    attributes: {
      num_heads: int(heads),
      unidirectional: boolean(mask === 'causal'),
      ...(scale !== null && { scale: float(scale) }),
    },
    required: 1,
  });
};

export const transformerLowerings: { readonly [K in keyof TransformerAttributes]: Lowering<K> } = {
  LayerNormalization: norm,
  SimplifiedLayerNormalization: norm,
  SkipLayerNormalization: skipNorm,
  SkipSimplifiedLayerNormalization: skipNorm,
  RotaryEmbedding: rotary,
  GroupQueryAttention: groupQuery,
  MultiHeadAttention: multiHead,
};
