/** GPT-2: learned positions, layer norms, one MLP; its Conv1D weights are [in, out]. Hugging Face's weight names. */
import type { Value } from '../graph/ir.js';
import { add, fastGelu, gelu, layerNorm, quickGelu, skipLayerNorm } from '../graph/ops.js';
import { type AttentionInputs, attend, queryFactor } from './attention.js';
import { type DecoderBuilder, embed, type Place, type Stream } from './blocks.js';
import type { LeadingFactor } from './decoder.js';
import type { Activation } from './model-config.js';
import { type Tokens, tokenPositions } from './positions.js';

type Raised = Value<'float32' | 'float16', readonly ['rows', 'time', 'mlp']>;

const activate: Readonly<Record<Activation, (x: Raised) => Raised>> = {
  silu: (x) => quickGelu(x, 1),
  gelu: (x) => gelu(x),
  gelu_tanh: (x) => fastGelu(x as never) as Raised,
};

/** Tokens to the final norm's output. `prefix` stands before the names of the checkpoint's tensors ("transformer." or nothing). */
export function gpt2Trunk(
  builder: DecoderBuilder,
  prefix: string,
  tokens: Tokens,
  inputs: Omit<AttentionInputs, 'rotary'>,
): Stream {
  const { hidden, vocabulary, layers, contextLength, normEpsilon } = builder.config;
  const table = (tensor: string, size: number) => ({
    parts: [{ tensor: `${prefix}${tensor}.weight`, size }],
    outputs: size,
    inputs: hidden,
    transposed: false,
  });
  const norm = (name: string, tensor: string) => ({
    scale: builder.vector(`${name}.scale`, 'hidden', [`${prefix}${tensor}.weight`, hidden]),
    shift: builder.vector(`${name}.shift`, 'hidden', [`${prefix}${tensor}.bias`, hidden]),
  });
  let sum: Stream = add(
    embed(builder, 'embedding', 'vocabulary', table('wte', vocabulary), tokens),
    embed(
      builder,
      'positions',
      'table',
      table('wpe', contextLength),
      tokenPositions(tokens, inputs.lastPosition),
    ),
  );
  const first = norm('layers.0.attention_norm', 'h.0.ln_1');
  let normed = layerNorm(sum as never, first.scale as never, first.shift as never, normEpsilon) as Stream;
  for (let layer = 0; layer < layers; layer++) {
    const attended = attention(builder, prefix, layer, normed, inputs);
    const middle = skipLayerNorm(
      sum,
      attended,
      norm(`layers.${layer}.mlp_norm`, `h.${layer}.ln_2`),
      normEpsilon,
    );
    const raised = mlp(builder, prefix, layer, middle.normed);
    const next =
      layer + 1 === layers
        ? norm('final_norm', 'ln_f')
        : norm(`layers.${layer + 1}.attention_norm`, `h.${layer + 1}.ln_1`);
    ({ normed, sum } = skipLayerNorm(middle.sum, raised, next, normEpsilon));
  }
  return normed;
}

/** One of the model's own products: a Conv1D with a bias. */
function conv1d<K extends string, N extends string>(
  builder: DecoderBuilder,
  x: Value<'float32' | 'float16', readonly ['rows', 'time', K]>,
  { name, tensor }: { readonly name: string; readonly tensor: string },
  axes: { readonly outputs: N; readonly inputs: K },
  { scaled = null, place = 'layer' }: { readonly scaled?: LeadingFactor | null; readonly place?: Place } = {},
): Value<'float32' | 'float16', readonly ['rows', 'time', N]> {
  const extent = (axis: string) => builder.g.extent(axis) ?? 0;
  const outputs = extent(axes.outputs);
  const matrix = {
    parts: [{ tensor: `${tensor}.weight`, size: outputs }],
    outputs,
    inputs: extent(axes.inputs),
    transposed: true,
    ...(scaled !== null && { scaled }),
  };
  const bias = builder.scaledVector(`${name}.bias`, axes.outputs, scaled, [`${tensor}.bias`, outputs]);
  return builder.product(x, name, axes, matrix, { bias, place });
}

function attention(
  builder: DecoderBuilder,
  prefix: string,
  layer: number,
  x: Stream,
  inputs: Omit<AttentionInputs, 'rotary'>,
): Stream {
  const at = (name: string, tensor: string) => ({
    name: `layers.${layer}.attention.${name}`,
    tensor: `${prefix}h.${layer}.attn.${tensor}`,
  });
  const axes = { outputs: 'qkv', inputs: 'hidden' } as const;
  const scaled = { size: builder.config.hidden, factor: queryFactor(builder) };
  const packed = conv1d(builder, x, at('qkv', 'c_attn'), axes, { scaled, place: 'queryKeyValue' });
  const attended = attend(builder, layer, packed, { ...inputs, rotary: null }, null);
  return conv1d(builder, attended, at('output', 'c_proj'), { outputs: 'hidden', inputs: 'attended' });
}

function mlp(builder: DecoderBuilder, prefix: string, layer: number, x: Stream): Stream {
  const at = (name: string, tensor: string) => ({
    name: `layers.${layer}.mlp.${name}`,
    tensor: `${prefix}h.${layer}.mlp.${tensor}`,
  });
  const raised = conv1d(builder, x, at('up', 'c_fc'), { outputs: 'mlp', inputs: 'hidden' });
  const active = activate[builder.config.activation](raised);
  return conv1d(builder, active, at('down', 'c_proj'), { outputs: 'hidden', inputs: 'mlp' });
}
