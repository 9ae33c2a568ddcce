/**
 * Hugging Face's config.json as the numbers that decide a decoder's arithmetic. Parsed once, here; whatever would change the maths and is
 * not known is refused by name, so that no model runs that is only nearly right.
 */
import { AppError } from '../../core/errors.js';
import {
  broken,
  flag,
  isObject,
  type Json,
  positiveInteger,
  positiveNumber,
  unsupported,
} from './config-values.js';
import { parseRotary, type Rotary } from './rotary.js';

export type Architecture = 'llama' | 'mistral' | 'qwen2' | 'qwen3' | 'gpt2';
export type Activation = 'silu' | 'gelu' | 'gelu_tanh';

export type PositionEncoding =
  | Rotary
  /** A table of one vector a position. */
  | { readonly kind: 'learned' };

export type HeadConfig =
  | { readonly kind: 'language' }
  /** Scalar score of a position. `mean` is the head's mean over demonstrations, to be taken off (0 where unknown). */
  | { readonly kind: 'reward'; readonly mean: number };

export interface ModelConfig {
  readonly architecture: Architecture;
  readonly head: HeadConfig;
  readonly vocabulary: number;
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  /** Width of the MLP between its two products. */
  readonly mlp: number;
  readonly activation: Activation;
  /** Positions that the model was made for. */
  readonly contextLength: number;
  readonly normEpsilon: number;
  readonly position: PositionEncoding;
  readonly biases: {
    readonly queryKeyValue: boolean;
    readonly attentionOutput: boolean;
    readonly mlp: boolean;
  };
  /** RMS norm of each query and key head before the rotation (Qwen3). */
  readonly queryKeyNorm: boolean;
  /** Keys that a position of a layer sees, itself included; null: all before it. */
  readonly attentionWindow: readonly (number | null)[];
  /** The language head is the embedding table. */
  readonly tiedHead: boolean;
}

/** Keys of which any other value than these means other arithmetic. Absent and null are always right. */
const neutralValues: Readonly<Record<string, readonly unknown[]>> = {
  partial_rotary_factor: [1],
  attn_logit_softcapping: [0],
  final_logit_softcapping: [0],
  logit_scale: [1],
  attention_multiplier: [],
  embedding_multiplier: [1],
  residual_multiplier: [1],
  logits_scaling: [1],
  query_pre_attn_scalar: [],
  attention_sinks: [],
  num_local_experts: [],
  num_experts: [],
  is_encoder_decoder: [false],
  add_cross_attention: [false],
  scale_attn_weights: [true],
  scale_attn_by_inverse_layer_idx: [false],
  reorder_and_upcast_attn: [false],
  use_bidirectional_attention: [false],
  is_causal: [true],
  alibi: [false],
  quantization_config: [],
};

function refuseUnknownMaths(json: Json): void {
  for (const [key, neutral] of Object.entries(neutralValues)) {
    const value = json[key];
    if (value === undefined || value === null || neutral.includes(value)) continue;
    throw unsupported(
      key,
      value,
      neutral.length === 0 ? 'models without it' : `only ${JSON.stringify(neutral[0])}`,
    );
  }
}

const activations: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
};

function parseActivation(json: Json, key: string, fallback: string): Activation {
  const value = json[key] ?? fallback;
  const activation =
    typeof value === 'string' && Object.hasOwn(activations, value) ? activations[value] : undefined;
  return activation ?? refuseActivation(key, value);
}

function refuseActivation(key: string, value: unknown): never {
  throw unsupported(key, value, Object.keys(activations).join(', '));
}

/** Hugging Face's, where the key is absent. */
const DEFAULT_WINDOW = 4096;

/** Which layers see only a window: each architecture's own rule where layer_types does not say. */
function parseWindows(json: Json, layers: number, architecture: Architecture): (number | null)[] {
  const isQwen = architecture === 'qwen2' || architecture === 'qwen3';
  const isOn = architecture === 'mistral' || (isQwen && flag(json, 'use_sliding_window', false));
  if (!isOn || json.sliding_window === null) return new Array<null>(layers).fill(null);
  const window = positiveInteger(json, 'sliding_window', DEFAULT_WINDOW);
  const types = json.layer_types;
  if (Array.isArray(types) && types.length === layers) {
    return types.map((type: unknown) => {
      if (type === 'full_attention') return null;
      if (type === 'sliding_attention') return window;
      throw unsupported('layer_types', type, 'full_attention and sliding_attention');
    });
  }
  const firstWindowed = isQwen ? positiveInteger(json, 'max_window_layers', layers) : 0;
  return Array.from({ length: layers }, (_, layer) => (layer >= firstWindowed ? window : null));
}

/** What a checkpoint of ours says of itself in config.json. */
function parseHead(json: Json, className: string): HeadConfig {
  const own = json.instructd;
  if (isObject(own) && own.head !== undefined && own.head !== 'language') {
    if (own.head !== 'reward') throw unsupported('instructd.head', own.head, 'language and reward');
    const mean = own.mean ?? 0;
    if (typeof mean !== 'number' || !Number.isFinite(mean)) throw broken('instructd.mean', mean, 'a number');
    return { kind: 'reward', mean };
  }
  if (!className.endsWith('ForSequenceClassification')) return { kind: 'language' };
  const labels = Array.isArray(json.id2label)
    ? json.id2label.length
    : Object.keys(json.id2label ?? { 0: '', 1: '' }).length;
  const count = json.num_labels ?? labels;
  if (count !== 1) throw unsupported('num_labels', count, 'sequence classifiers with 1 label (a reward)');
  return { kind: 'reward', mean: 0 };
}

interface Family {
  /** Class name without its task. */
  readonly prefix: string;
  readonly parse: (json: Json) => Omit<ModelConfig, 'architecture' | 'head' | 'vocabulary'>;
}

/** Whether q, k, v, the output projection and the MLP have biases, for the families that differ in little else. */
const llamaLike =
  (architecture: Architecture, biases: (json: Json) => ModelConfig['biases'], queryKeyNorm: boolean) =>
  (json: Json): ReturnType<Family['parse']> => {
    const hidden = positiveInteger(json, 'hidden_size');
    const heads = positiveInteger(json, 'num_attention_heads');
    const layers = positiveInteger(json, 'num_hidden_layers');
    const keyValueHeads = positiveInteger(
      json,
      'num_key_value_heads',
      architecture === 'llama' ? heads : undefined,
    );
    const headDim = positiveInteger(json, 'head_dim', architecture === 'qwen3' ? 128 : hidden / heads);
    if (heads % keyValueHeads !== 0)
      throw broken('num_key_value_heads', keyValueHeads, `a divisor of ${heads}`);
    if (headDim % 2 !== 0) throw broken('head_dim', headDim, 'an even number');
    return {
      hidden,
      layers,
      heads,
      keyValueHeads,
      headDim,
      mlp: positiveInteger(json, 'intermediate_size'),
      activation: parseActivation(json, 'hidden_act', 'silu'),
      contextLength: positiveInteger(json, 'max_position_embeddings'),
      normEpsilon: positiveNumber(json, 'rms_norm_eps', 1e-6),
      position: parseRotary(json),
      biases: biases(json),
      queryKeyNorm,
      attentionWindow: parseWindows(json, layers, architecture),
      tiedHead: flag(json, 'tie_word_embeddings', false),
    };
  };

function parseGpt2(json: Json): ReturnType<Family['parse']> {
  const hidden = positiveInteger(json, 'n_embd');
  const heads = positiveInteger(json, 'n_head');
  const layers = positiveInteger(json, 'n_layer');
  if (hidden % heads !== 0) throw broken('n_head', heads, `a divisor of n_embd (${hidden})`);
  return {
    hidden,
    layers,
    heads,
    keyValueHeads: heads,
    headDim: hidden / heads,
    mlp: positiveInteger(json, 'n_inner', 4 * hidden),
    activation: parseActivation(json, 'activation_function', 'gelu_new'),
    contextLength: positiveInteger(json, 'n_positions', 1024),
    normEpsilon: positiveNumber(json, 'layer_norm_epsilon', 1e-5),
    position: { kind: 'learned' },
    biases: { queryKeyValue: true, attentionOutput: true, mlp: true },
    queryKeyNorm: false,
    attentionWindow: new Array<null>(layers).fill(null),
    tiedHead: flag(json, 'tie_word_embeddings', true),
  };
}

const noBiases = { queryKeyValue: false, attentionOutput: false, mlp: false };

const families: Readonly<Record<Architecture, Family>> = {
  llama: {
    prefix: 'Llama',
    parse: llamaLike(
      'llama',
      (json) => {
        const attention = flag(json, 'attention_bias', false);
        return { queryKeyValue: attention, attentionOutput: attention, mlp: flag(json, 'mlp_bias', false) };
      },
      false,
    ),
  },
  mistral: { prefix: 'Mistral', parse: llamaLike('mistral', () => noBiases, false) },
  qwen2: { prefix: 'Qwen2', parse: llamaLike('qwen2', () => ({ ...noBiases, queryKeyValue: true }), false) },
  qwen3: {
    prefix: 'Qwen3',
    parse: llamaLike(
      'qwen3',
      (json) => {
        const attention = flag(json, 'attention_bias', false);
        return { queryKeyValue: attention, attentionOutput: attention, mlp: false };
      },
      true,
    ),
  },
  gpt2: { prefix: 'GPT2', parse: parseGpt2 },
};

const isArchitecture = (name: unknown): name is Architecture =>
  typeof name === 'string' && Object.hasOwn(families, name);

const tasks = /^(?:ForCausalLM|LMHeadModel|ForSequenceClassification)$/;

/**
 * @param json config.json, parsed.
 * @throws `model_not_supported` names the key that this build cannot run; `checkpoint_invalid` a value of the wrong kind.
 */
export function parseModelConfig(json: unknown): ModelConfig {
  if (!isObject(json)) throw new AppError('checkpoint_invalid', 'config.json is not a JSON object.');
  const architecture = json.model_type;
  if (!isArchitecture(architecture)) {
    throw unsupported('model_type', architecture, Object.keys(families).join(', '));
  }
  const { prefix, parse } = families[architecture];
  const named: unknown = Array.isArray(json.architectures) ? json.architectures[0] : undefined;
  const className = named ?? `${prefix}ForCausalLM`;
  if (
    typeof className !== 'string' ||
    !className.startsWith(prefix) ||
    !tasks.test(className.slice(prefix.length))
  ) {
    throw unsupported(
      'architectures',
      json.architectures,
      `${prefix}ForCausalLM and ${prefix}ForSequenceClassification`,
    );
  }
  refuseUnknownMaths(json);
  return {
    architecture,
    head: parseHead(json, className),
    vocabulary: positiveInteger(json, 'vocab_size'),
    ...parse(json),
  };
}
