/** ModelConfig -> DecoderGraph: inputs, the architecture's trunk, the picked positions, the head. */
import { AppError } from '../../core/errors.js';
import { GraphBuilder } from '../graph/builder.js';
import type { Graph } from '../graph/ir.js';
import { cachedHeadDim } from './attention.js';
import { type AttentionForm, DecoderBuilder, type Stream } from './blocks.js';
import { type DecoderGraph, decoderInputs, decoderOutputs, type WeightForm } from './decoder.js';
import { gpt2Trunk } from './gpt2.js';
import { languageHead, pickPositions, rewardHead } from './heads.js';
import { llamaTrunk } from './llama.js';
import type { Architecture, ModelConfig } from './model-config.js';

export interface DecoderOptions {
  readonly form: WeightForm;
  /** Positions that a slot may hold, at most the config's contextLength. */
  readonly maxPositions: number;
  /** What suits the form, where it is left out. */
  readonly attention?: AttentionForm;
}

/** Names of the checkpoint's tensors: what its author left out or put before them is found there. */
export interface TensorNames {
  has(name: string): boolean;
}

/** Before the trunk's tensors in a whole model's checkpoint, and the embedding table's name after it. */
const naming: Readonly<Record<Architecture, { readonly prefix: string; readonly table: string }>> = {
  llama: { prefix: 'model.', table: 'embed_tokens.weight' },
  mistral: { prefix: 'model.', table: 'embed_tokens.weight' },
  qwen2: { prefix: 'model.', table: 'embed_tokens.weight' },
  qwen3: { prefix: 'model.', table: 'embed_tokens.weight' },
  gpt2: { prefix: 'transformer.', table: 'wte.weight' },
};

/** Throws `invalid_value` where more positions are asked for than the model was made for. */
export function buildDecoder(
  config: ModelConfig,
  tensors: TensorNames,
  options: DecoderOptions,
): DecoderGraph {
  const { form, maxPositions, attention } = options;
  if (maxPositions > config.contextLength) {
    throw new AppError(
      'invalid_value',
      `A context of ${maxPositions} was asked of a model made for ${config.contextLength}.`,
      { param: 'context_length' },
    );
  }
  const g = new GraphBuilder('decoder', axesOf(config, maxPositions));
  const builder = new DecoderBuilder(g, config, form, attention);
  const graph = buildGraph(builder, tensors, maxPositions);
  return {
    graph,
    form,
    head:
      config.head.kind === 'language'
        ? { kind: 'language', output: decoderOutputs.language, vocabulary: config.vocabulary }
        : { kind: 'reward', output: decoderOutputs.reward },
    kv: {
      layers: config.layers,
      heads: config.keyValueHeads,
      headDim: cachedHeadDim(config.headDim),
      type: builder.attention.type,
    },
    maxPositions,
    weights: builder.weights,
  };
}

function buildGraph(builder: DecoderBuilder, tensors: TensorNames, maxPositions: number): Graph {
  const { g, config } = builder;
  const { prefix: usual, table } = naming[config.architecture];
  // A checkpoint saved from the trunk alone (gpt2's on the hub) has no prefix.
  const prefix = tensors.has(usual + table) || !tensors.has(table) ? usual : '';
  const tokens = g.input(decoderInputs.tokens, 'int64', ['rows', 'time']);
  const lastPosition = g.input(decoderInputs.lastPosition, 'int32', ['rows']);
  const totalLength = g.input(decoderInputs.totalLength, 'int32', []);
  const picked = g.input(decoderInputs.picked, 'int64', ['picked']);
  const { position } = config;
  const trunk: Stream =
    position.kind === 'rotary'
      ? llamaTrunk(builder, prefix, tokens, {
          rotary: position,
          count: maxPositions,
          lastPosition,
          totalLength,
        })
      : gpt2Trunk(builder, prefix, tokens, { lastPosition, totalLength });
  const hidden = pickPositions(trunk, picked);
  if (config.head.kind === 'language') {
    languageHead(builder, hidden, config.tiedHead ? prefix + table : 'lm_head.weight');
  } else {
    const bias = tensors.has('score.bias') ? 'score.bias' : null;
    rewardHead(builder, hidden, { weight: 'score.weight', bias });
  }
  return g.build();
}

const axesOf = (config: ModelConfig, maxPositions: number): Record<string, number | 'dynamic'> => ({
  rows: 'dynamic',
  time: 'dynamic',
  picked: 'dynamic',
  positions: 'dynamic',
  vocabulary: config.vocabulary,
  hidden: config.hidden,
  mlp: config.mlp,
  gate_up: 2 * config.mlp,
  heads: config.heads,
  kv_heads: config.keyValueHeads,
  head: config.headDim,
  cached_head: cachedHeadDim(config.headDim),
  pair: config.headDim / 2,
  q: config.heads * config.headDim,
  k: config.keyValueHeads * config.headDim,
  v: config.keyValueHeads * config.headDim,
  qkv: (config.heads + 2 * config.keyValueHeads) * config.headDim,
  attended: config.heads * config.headDim,
  attended_filled: config.heads * cachedHeadDim(config.headDim),
  q_filled: config.heads * cachedHeadDim(config.headDim),
  k_filled: config.keyValueHeads * cachedHeadDim(config.headDim),
  v_filled: config.keyValueHeads * cachedHeadDim(config.headDim),
  // GPT-2's table holds every position of the model; rotary tables only those in use.
  table: config.position.kind === 'learned' ? config.contextLength : maxPositions,
});
