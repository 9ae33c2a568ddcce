import { type ModelConfig, parseModelConfig } from '../src/models/transformer/model-config.js';

/** A small configuration of each architecture, as config.json has it: [name of the language model, fields]. */
const decoder = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  hidden_act: 'silu',
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: true,
  vocab_size: 32,
};
export const architectures = {
  llama: ['LlamaForCausalLM', decoder],
  mistral: ['MistralForCausalLM', { ...decoder, sliding_window: 32 }],
  qwen2: ['Qwen2ForCausalLM', { ...decoder, tie_word_embeddings: false }],
  qwen3: ['Qwen3ForCausalLM', decoder],
  gpt2: [
    'GPT2LMHeadModel',
    {
      n_embd: 64,
      n_layer: 2,
      n_head: 4,
      n_positions: 64,
      n_ctx: 64,
      vocab_size: 32,
      layer_norm_epsilon: 1e-5,
      activation_function: 'gelu_new',
    },
  ],
} as const;

export const configOf = (type: keyof typeof architectures, change: object = {}): ModelConfig => {
  const [name, json] = architectures[type];
  return parseModelConfig({ model_type: type, architectures: [name], ...json, ...change });
};
