/** The llama family (Llama, Mistral, Qwen2, Qwen3): RMS norms, rotary attention, gated MLP; Hugging Face's weight names. */

import type { Value } from '../graph/ir.js';
import { fastGelu, gelu, mul, quickGelu, rmsNorm, skipRmsNorm, split } from '../graph/ops.js';
import { type AttentionInputs, attend, type HeadNorms, queryFactor, rotaryInputs } from './attention.js';
import { type DecoderBuilder, embed, type Stream } from './blocks.js';
import type { Activation } from './model-config.js';
import type { Tokens } from './positions.js';
import type { Rotary } from './rotary.js';

type Gate = Value<'float32' | 'float16', readonly ['rows', 'time', 'mlp']>;

const activate: Readonly<Record<Activation, (gate: Gate) => Gate>> = {
  silu: (gate) => quickGelu(gate, 1),
  gelu: (gate) => gelu(gate),
  gelu_tanh: (gate) => fastGelu(gate as never) as Gate,
};

/** Tokens to the final norm's output. `prefix` stands before the names of the checkpoint's tensors ("model."). */
export function llamaTrunk(
  builder: DecoderBuilder,
  prefix: string,
  tokens: Tokens,
  positions: Omit<AttentionInputs, 'rotary'> & { readonly rotary: Rotary; readonly count: number },
): Stream {
  const { config } = builder;
  const { hidden, vocabulary, layers, normEpsilon } = config;
  const inputs = { ...positions, rotary: rotaryInputs(builder, tokens, positions) };
  const table = {
    parts: [{ tensor: `${prefix}embed_tokens.weight`, size: vocabulary }],
    outputs: vocabulary,
    inputs: hidden,
    transposed: false,
  };
  let sum = embed(builder, 'embedding', 'vocabulary', table, tokens);
  const norm = (name: string, tensor: string) =>
    builder.vector(name, 'hidden', [`${prefix}${tensor}.weight`, hidden]);
  let normed = rmsNorm(
    sum as never,
    norm('layers.0.input_norm', 'layers.0.input_layernorm') as never,
    normEpsilon,
  ) as Stream;
  for (let layer = 0; layer < layers; layer++) {
    const name = `layers.${layer}`;
    const attended = attention(builder, prefix, layer, normed, inputs);
    const middle = skipRmsNorm(
      sum,
      attended,
      norm(`${name}.mlp_norm`, `${name}.post_attention_layernorm`),
      normEpsilon,
    );
    const raised = mlp(builder, prefix, layer, middle.normed);
    const next =
      layer + 1 === layers
        ? norm('final_norm', 'norm')
        : norm(`layers.${layer + 1}.input_norm`, `layers.${layer + 1}.input_layernorm`);
    ({ normed, sum } = skipRmsNorm(middle.sum, raised, next, normEpsilon));
  }
  return normed;
}

function attention(
  builder: DecoderBuilder,
  prefix: string,
  layer: number,
  x: Stream,
  inputs: AttentionInputs,
): Stream {
  const { hidden, heads, headDim, biases } = builder.config;
  const tensor = (part: string) => `${prefix}layers.${layer}.self_attn.${part}`;
  const name = `layers.${layer}.attention`;
  const packed = queryKeyValue(builder, name, tensor, x);
  return builder.product(
    attend(builder, layer, packed, inputs, headNorms(builder, name, tensor)),
    `${name}.output`,
    { outputs: 'hidden', inputs: 'attended' },
    {
      parts: [{ tensor: tensor('o_proj.weight'), size: hidden }],
      outputs: hidden,
      inputs: heads * headDim,
      transposed: false,
    },
    biases.attentionOutput
      ? { bias: builder.vector(`${name}.output.bias`, 'hidden', [tensor('o_proj.bias'), hidden]) }
      : {},
  );
}

/** One product; its queries come out multiplied by `queryFactor`, unless a norm follows, which would take the factor out again. */
function queryKeyValue(builder: DecoderBuilder, name: string, tensor: (part: string) => string, x: Stream) {
  const { hidden, heads, keyValueHeads, headDim, biases, queryKeyNorm } = builder.config;
  const parts = [
    ['q_proj', heads * headDim],
    ['k_proj', keyValueHeads * headDim],
    ['v_proj', keyValueHeads * headDim],
  ] as const;
  const scaled = { size: heads * headDim, factor: queryKeyNorm ? 1 : queryFactor(builder) };
  const biasNames = parts.map(([part, size]) => [tensor(`${part}.bias`), size] as [string, number]);
  return builder.product(
    x,
    `${name}.qkv`,
    { outputs: 'qkv', inputs: 'hidden' },
    {
      parts: parts.map(([part, size]) => ({ tensor: tensor(`${part}.weight`), size })),
      outputs: (heads + 2 * keyValueHeads) * headDim,
      inputs: hidden,
      transposed: false,
      scaled,
    },
    {
      place: 'queryKeyValue',
      ...(biases.queryKeyValue && {
        bias: builder.scaledVector(`${name}.qkv.bias`, 'qkv', scaled, ...biasNames),
      }),
    },
  );
}

function headNorms(
  builder: DecoderBuilder,
  name: string,
  tensor: (part: string) => string,
): HeadNorms | null {
  const { headDim, queryKeyNorm } = builder.config;
  if (!queryKeyNorm) return null;
  const scaled = { size: headDim, factor: queryFactor(builder) };
  return {
    query: builder.scaledVector(`${name}.query_norm`, 'head', scaled, [tensor('q_norm.weight'), headDim]),
    key: builder.vector(`${name}.key_norm`, 'head', [tensor('k_norm.weight'), headDim]),
  };
}

/** Gate and up come out of one product: fewer nodes, and one pass over the activations. */
function mlp(builder: DecoderBuilder, prefix: string, layer: number, x: Stream): Stream {
  const { hidden, mlp: width, activation, biases } = builder.config;
  const tensor = (part: string) => `${prefix}layers.${layer}.mlp.${part}`;
  const name = `layers.${layer}.mlp`;
  const both = builder.product(
    x,
    `${name}.gate_up`,
    { outputs: 'gate_up', inputs: 'hidden' },
    {
      parts: [
        { tensor: tensor('gate_proj.weight'), size: width },
        { tensor: tensor('up_proj.weight'), size: width },
      ],
      outputs: 2 * width,
      inputs: hidden,
      transposed: false,
    },
    biases.mlp
      ? {
          bias: builder.vector(
            `${name}.gate_up.bias`,
            'gate_up',
            [tensor('gate_proj.bias'), width],
            [tensor('up_proj.bias'), width],
          ),
        }
      : {},
  );
  const [gate, up] = split(both, 'gate_up', ['mlp', 'mlp']);
  return builder.product(
    mul(activate[activation](gate as Gate), up as Gate),
    `${name}.down`,
    { outputs: 'hidden', inputs: 'mlp' },
    {
      parts: [{ tensor: tensor('down_proj.weight'), size: hidden }],
      outputs: hidden,
      inputs: width,
      transposed: false,
    },
    biases.mlp
      ? { bias: builder.vector(`${name}.down.bias`, 'hidden', [tensor('down_proj.bias'), hidden]) }
      : {},
  );
}
