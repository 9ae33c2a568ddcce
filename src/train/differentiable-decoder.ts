/**
 * Decoders of differentiable ops: the same arithmetic as models/transformer, without a cache and with every weight a parameter under its
 * Hugging Face name and layout, so that gradients, optimizer state and checkpoints all speak of the same tensors.
 *
 * Rows are padded on the right: a causal mask keeps padding from every real position, so no padding mask is needed.
 */
import type { GraphBuilder } from '../models/graph/builder.js';
import type { Axes, Value } from '../models/graph/ir.js';
import * as op from '../models/graph/ops.js';
import type { ModelConfig } from '../models/transformer/model-config.js';
import { type Attend, createAttention, type Projections } from './differentiable-attention.js';

export type Float = Value<'float32', Axes>;
export type Hidden = Value<'float32', readonly ['rows', 'time', 'model']>;
export type Tokens = Value<'int64', readonly ['rows', 'time']>;

/** Axis extents of a decoder, for the builder or for a scope of it. */
export const decoderAxes = (config: ModelConfig) =>
  ({
    rows: 'dynamic',
    time: 'dynamic',
    keys: 'dynamic',
    'group*time': 'dynamic',
    tokens: 'dynamic',
    picked: 'dynamic',
    model: config.hidden,
    vocabulary: config.vocabulary,
    positions: config.contextLength,
    query: config.heads * config.headDim,
    key: config.keyValueHeads * config.headDim,
    value: config.keyValueHeads * config.headDim,
    kv: config.keyValueHeads,
    heads: config.heads,
    group: config.heads / config.keyValueHeads,
    head: config.headDim,
    half: config.headDim / 2,
    mlp: config.mlp,
    'query+key+value': 3 * config.hidden,
    score: 1,
  }) as const;

/** Wraps the outputs of attention and MLP before they join the residual stream: dropout, or nothing. */
export type Residual = (branch: Hidden) => Hidden;

export interface DecodeOptions {
  /** Longest row that the graph will see. */
  readonly maxTime: number;
  readonly residual?: Residual;
}

/** Hidden states after the last norm. Parameters are named in the scope around the call. */
export function decode(g: GraphBuilder, config: ModelConfig, tokens: Tokens, options: DecodeOptions): Hidden {
  const { maxTime, residual = (x: Hidden) => x } = options;
  const attend = createAttention(g, config, tokens, maxTime);
  const decoder = config.architecture === 'gpt2' ? decodeGpt2 : decodeLlama;
  return decoder(g, config, tokens, attend, residual);
}

/** Name of the embedding table, which a tied language head shares. */
export const embeddingName = (config: ModelConfig): string =>
  config.architecture === 'gpt2' ? 'transformer.wte.weight' : 'model.embed_tokens.weight';

export const embedding = (g: GraphBuilder, config: ModelConfig) =>
  g.parameter(embeddingName(config), 'float32', ['vocabulary', 'model']);

const weight = <const A extends Axes>(g: GraphBuilder, name: string, axes: A): Value<'float32', A> =>
  g.parameter(`${name}.weight`, 'float32', axes);
const bias = <const A extends Axes>(g: GraphBuilder, name: string, axes: A): Value<'float32', A> =>
  g.parameter(`${name}.bias`, 'float32', axes);

/** x W^T (+ b), W as Hugging Face's Linear keeps it. */
function project<K extends string, const N extends string>(
  g: GraphBuilder,
  x: Value<'float32', readonly ['rows', 'time', K]>,
  name: string,
  as: N,
  biased: boolean,
): Value<'float32', readonly ['rows', 'time', N]> {
  const y = op.linear(x, weight(g, name, [as, x.axes[2] as K]) as Value<'float32', readonly [N, NoInfer<K>]>);
  return (biased ? op.add(y as Float, bias(g, name, [as])) : y) as Value<
    'float32',
    readonly ['rows', 'time', N]
  >;
}

const activations: Readonly<Record<ModelConfig['activation'], (x: Float) => Float>> = {
  silu: (x) => op.quickGelu(x, 1),
  gelu: op.gelu,
  gelu_tanh: (x) => op.fastGelu(x as Value<'float32', readonly [...Axes, string]>),
};

function decodeLlama(
  g: GraphBuilder,
  config: ModelConfig,
  tokens: Tokens,
  attend: Attend,
  residual: Residual,
): Hidden {
  const { biases } = config;
  const norm = (x: Hidden, name: string) =>
    op.rmsNorm(x, weight(g, name, ['model']), config.normEpsilon) as Hidden;
  let x = op.gather(embedding(g, config), 'vocabulary', tokens) as Hidden;
  for (let layer = 0; layer < config.layers; layer++) {
    x = g.scope(`model.layers.${layer}`, () => {
      const normed = norm(x, 'input_layernorm');
      const attended = g.scope('self_attn', () => {
        const q = project(g, normed, 'q_proj', 'query', biases.queryKeyValue);
        const k = project(g, normed, 'k_proj', 'key', biases.queryKeyValue);
        const v = project(g, normed, 'v_proj', 'key', biases.queryKeyValue);
        const context = attend(layer, { q, k, v });
        return project(g, context, 'o_proj', 'model', biases.attentionOutput);
      });
      const middle = op.add(x, residual(attended)) as Hidden;
      const inner = norm(middle, 'post_attention_layernorm');
      const fed = g.scope('mlp', () => {
        const gate = activations[config.activation](
          project(g, inner, 'gate_proj', 'mlp', biases.mlp) as Float,
        );
        const up = project(g, inner, 'up_proj', 'mlp', biases.mlp);
        const product = op.mul(gate, up as Float) as typeof up;
        return project(g, product, 'down_proj', 'model', biases.mlp);
      });
      return op.add(middle, residual(fed)) as Hidden;
    });
  }
  return norm(x, 'model.norm');
}

/** GPT-2 keeps its weights [in, out] (Conv1D) and packs query, key and value. */
function decodeGpt2(
  g: GraphBuilder,
  config: ModelConfig,
  tokens: Tokens,
  attend: Attend,
  residual: Residual,
): Hidden {
  const norm = (x: Hidden, name: string) =>
    op.layerNorm(x, weight(g, name, ['model']), bias(g, name, ['model']), config.normEpsilon) as Hidden;
  const affine = (x: Float, name: string, from: string, to: string): Float =>
    op.add(
      op.matmul(x as Value<'float32', readonly [...Axes, string]>, weight(g, name, [from, to])) as Float,
      bias(g, name, [to]),
    );
  const position = op.range(op.squeeze(op.extentValue(tokens, 'time'), []), 'time');
  const table = g.parameter('transformer.wpe.weight', 'float32', ['positions', 'model']);
  const embedded = op.gather(embedding(g, config), 'vocabulary', tokens) as Float;
  let x = op.add(embedded, op.gather(table, 'positions', position) as Float) as Hidden;
  for (let layer = 0; layer < config.layers; layer++) {
    x = g.scope(`transformer.h.${layer}`, () => {
      const packed = affine(norm(x, 'ln_1') as Float, 'attn.c_attn', 'model', 'query+key+value');
      const [q, k, value] = op.split(packed, 'query+key+value', ['query', 'key', 'value']) as readonly [
        Float,
        Float,
        Float,
      ];
      const v = op.rename(value, { value: 'key' } as never) as Float;
      const context = attend(layer, { q, k, v } as Projections);
      const attended = affine(context as Float, 'attn.c_proj', 'query', 'model') as Hidden;
      const middle = op.add(x, residual(attended)) as Hidden;
      const inner = activations[config.activation](
        affine(norm(middle, 'ln_2') as Float, 'mlp.c_fc', 'model', 'mlp'),
      );
      return op.add(middle, residual(affine(inner, 'mlp.c_proj', 'mlp', 'model') as Hidden)) as Hidden;
    });
  }
  return norm(x, 'transformer.ln_f');
}
