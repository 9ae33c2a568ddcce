/** The bundled base model: what it is made of, as its Hugging Face directory says. */

export const endOfText = '<|endoftext|>';

/** All ids of its tokenizer: 256 bytes, merges and the end of a text. */
export const baseVocabulary = 1024;

/** config.json of a llama with 1.4M parameters. */
export const baseConfig = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: baseVocabulary,
  hidden_size: 160,
  intermediate_size: 448,
  num_hidden_layers: 4,
  num_attention_heads: 5,
  num_key_value_heads: 5,
  head_dim: 32,
  hidden_act: 'silu',
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  attention_bias: false,
  mlp_bias: false,
  tie_word_embeddings: true,
  bos_token_id: baseVocabulary - 1,
  eos_token_id: baseVocabulary - 1,
  torch_dtype: 'bfloat16',
} as const;

export const baseTokenizerOptions = {
  vocabularySize: baseVocabulary,
  specialTokens: [endOfText],
} as const;
