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

/** `row * time + position` of each picked position. */
export type PickedIndices = Value<'int64', readonly ['picked']>;
export type PickedHidden = Value<'float32', readonly ['picked', 'model']>;

/** Hidden states after the last norm. Parameters are named in the scope around the call. */
export function decode(g: GraphBuilder, config: ModelConfig, tokens: Tokens, options: DecodeOptions): Hidden {
  const { maxTime, residual = (x: Hidden) => x } = options;
  const attend = createAttention(g, config, tokens, maxTime);
  return decoders[config.architecture](g, config, tokens, { attend, residual, keep: (x) => x }) as Hidden;
}

/**
 * Hidden states after the last norm at the picked positions, as `decode` and a pick behind it would give them. In the last layer only
 * they go on from attention: its output projection and MLP are not computed for positions that nothing reads.
 */
export function decodePicked(
  g: GraphBuilder,
  config: ModelConfig,
  tokens: Tokens,
  picked: PickedIndices,
  { maxTime }: Pick<DecodeOptions, 'maxTime'>,
): PickedHidden {
  const attend = createAttention(g, config, tokens, maxTime);
  const keep: Passage['keep'] = (x, layer) => (layer === config.layers - 1 ? pickRows(x, picked) : x);
  return decoders[config.architecture](g, config, tokens, {
    attend,
    residual: (x) => x,
    keep,
  }) as PickedHidden;
}

/** [rows, time, k] -> [picked, k] */
export function pickRows(x: Float, picked: PickedIndices): Float {
  const tokens = op.mergeAxes(x, ['rows', 'time'] as never, 'tokens') as Float;
  return op.gather(tokens, 'tokens', picked) as Float;
}

/** What a decoder's layers are given. */
interface Passage {
  readonly attend: Attend;
  readonly residual: Residual;
  /** Of a layer's attention and residual stream, the positions that go on. */
  readonly keep: (x: Float, layer: number) => Float;
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
function project(g: GraphBuilder, x: Float, name: string, as: string, biased: boolean): Float {
  const y = op.linear(
    x as Value<'float32', readonly [...Axes, string]>,
    weight(g, name, [as, x.axes.at(-1)!]),
  ) as Float;
  return biased ? op.add(y, bias(g, name, [as])) : y;
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
  { attend, residual, keep }: Passage,
): Float {
  const { biases } = config;
  const norm = (x: Float, name: string) =>
    op.rmsNorm(x as Hidden, weight(g, name, ['model']), config.normEpsilon) as Float;
  let x = op.gather(embedding(g, config), 'vocabulary', tokens) as Float;
  for (let layer = 0; layer < config.layers; layer++) {
    x = g.scope(`model.layers.${layer}`, () => {
      const normed = norm(x, 'input_layernorm');
      const attended = g.scope('self_attn', () => {
        const q = project(g, normed, 'q_proj', 'query', biases.queryKeyValue);
        const k = project(g, normed, 'k_proj', 'key', biases.queryKeyValue);
        const v = project(g, normed, 'v_proj', 'key', biases.queryKeyValue);
        const context = attend(layer, { q, k, v } as Projections) as Float;
        return project(g, keep(context, layer), 'o_proj', 'model', biases.attentionOutput);
      });
      const middle = op.add(keep(x, layer), residual(attended as Hidden) as Float);
      const inner = norm(middle, 'post_attention_layernorm');
      const fed = g.scope('mlp', () => {
        const gate = activations[config.activation](project(g, inner, 'gate_proj', 'mlp', biases.mlp));
        const up = project(g, inner, 'up_proj', 'mlp', biases.mlp);
        return project(g, op.mul(gate, up), 'down_proj', 'model', biases.mlp);
      });
      return op.add(middle, residual(fed as Hidden) as Float);
    });
  }
  return norm(x, 'model.norm');
}

/** GPT-2 keeps its weights [in, out] (Conv1D) and packs query, key and value. */
function decodeGpt2(
  g: GraphBuilder,
  config: ModelConfig,
  tokens: Tokens,
  { attend, residual, keep }: Passage,
): Float {
  const norm = (x: Float, name: string) =>
    op.layerNorm(
      x as Hidden,
      weight(g, name, ['model']),
      bias(g, name, ['model']),
      config.normEpsilon,
    ) as Float;
  const affine = (x: Float, name: string, from: string, to: string): Float =>
    op.add(
      op.matmul(x as Value<'float32', readonly [...Axes, string]>, weight(g, name, [from, to])) as Float,
      bias(g, name, [to]),
    );
  const position = op.range(op.squeeze(op.extentValue(tokens, 'time'), []), 'time');
  const table = g.parameter('transformer.wpe.weight', 'float32', ['positions', 'model']);
  const embedded = op.gather(embedding(g, config), 'vocabulary', tokens) as Float;
  let x = op.add(embedded, op.gather(table, 'positions', position) as Float) as Float;
  for (let layer = 0; layer < config.layers; layer++) {
    x = g.scope(`transformer.h.${layer}`, () => {
      const packed = affine(norm(x, 'ln_1'), 'attn.c_attn', 'model', 'query+key+value');
      const [q, k, value] = op.split(packed, 'query+key+value', ['query', 'key', 'value']) as readonly [
        Float,
        Float,
        Float,
      ];
      const v = op.rename(value, { value: 'key' } as never) as Float;
      const context = attend(layer, { q, k, v } as Projections) as Float;
      const attended = affine(keep(context, layer), 'attn.c_proj', 'query', 'model');
      const middle = op.add(keep(x, layer), residual(attended as Hidden) as Float);
      const inner = activations[config.activation](affine(norm(middle, 'ln_2'), 'mlp.c_fc', 'model', 'mlp'));
      const fed = affine(inner, 'mlp.c_proj', 'mlp', 'model');
      return op.add(middle, residual(fed as Hidden) as Float);
    });
  }
  return norm(x, 'transformer.ln_f');
}

type Decoder = (g: GraphBuilder, config: ModelConfig, tokens: Tokens, passage: Passage) => Float;

const decoders: Readonly<Record<ModelConfig['architecture'], Decoder>> = {
  llama: decodeLlama,
  mistral: decodeLlama,
  qwen2: decodeLlama,
  qwen3: decodeLlama,
  gpt2: decodeGpt2,
};
