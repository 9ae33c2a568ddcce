import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, type ErrorCode } from '../../../../src/core/errors.js';
import { parseModelConfig } from '../../../../src/models/transformer/model-config.js';
import { rotaryFrequencies } from '../../../../src/models/transformer/rotary.js';

const llama = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  vocab_size: 96,
  hidden_size: 32,
  intermediate_size: 56,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
};
const qwen2 = { ...llama, model_type: 'qwen2', architectures: ['Qwen2ForCausalLM'] };
const qwen3 = { ...llama, model_type: 'qwen3', architectures: ['Qwen3ForCausalLM'], head_dim: 16 };
const mistral = { ...llama, model_type: 'mistral', architectures: ['MistralForCausalLM'] };
const gpt2 = {
  model_type: 'gpt2',
  vocab_size: 96,
  n_embd: 32,
  n_head: 4,
  n_layer: 2,
  n_positions: 64,
  n_inner: null,
};

test('rotary parameters mean the same under their new and old keys', () => {
  const old = parseModelConfig({ ...llama, rope_theta: 5e5, rope_scaling: { type: 'linear', factor: 2 } });
  const now = parseModelConfig({
    ...llama,
    rope_parameters: { rope_theta: 5e5, rope_type: 'linear', factor: 2 },
  });
  assert.deepEqual(old, now);
  assert.deepEqual(now.position, { kind: 'rotary', theta: 5e5, scaling: { kind: 'linear', factor: 2 } });
});

test('biases and query-key norms follow the architecture', () => {
  assert.deepEqual(parseModelConfig(qwen2).biases, {
    queryKeyValue: true,
    attentionOutput: false,
    mlp: false,
  });
  assert.deepEqual(parseModelConfig({ ...llama, attention_bias: true, mlp_bias: true }).biases, {
    queryKeyValue: true,
    attentionOutput: true,
    mlp: true,
  });
  assert.equal(parseModelConfig(qwen3).queryKeyNorm, true);
  assert.equal(parseModelConfig(qwen3).headDim, 16);
  assert.equal(parseModelConfig(gpt2).mlp, 128);
  assert.equal(parseModelConfig(gpt2).tiedHead, true);
  assert.equal(parseModelConfig(llama).tiedHead, false);
});

test('windows: mistral everywhere unless null, qwen2 only if switched on and from max_window_layers', () => {
  assert.deepEqual(parseModelConfig({ ...mistral, sliding_window: 8 }).attentionWindow, [8, 8, 8]);
  assert.deepEqual(parseModelConfig({ ...mistral, sliding_window: null }).attentionWindow, [
    null,
    null,
    null,
  ]);
  assert.deepEqual(parseModelConfig({ ...qwen2, sliding_window: 8 }).attentionWindow, [null, null, null]);
  assert.deepEqual(
    parseModelConfig({ ...qwen2, sliding_window: 8, use_sliding_window: true, max_window_layers: 2 })
      .attentionWindow,
    [null, null, 8],
  );
});

test('a sequence classifier with one label and an own reward checkpoint get the reward head', () => {
  const classifier = { ...llama, architectures: ['LlamaForSequenceClassification'] };
  assert.deepEqual(parseModelConfig({ ...classifier, id2label: { 0: 'LABEL_0' } }).head, {
    kind: 'reward',
    mean: 0,
  });
  assert.deepEqual(parseModelConfig({ ...llama, instructd: { head: 'reward', mean: 0.25 } }).head, {
    kind: 'reward',
    mean: 0.25,
  });
});

const refusals: readonly [json: object, code: ErrorCode, param: string][] = [
  [{ ...llama, model_type: 'gemma2' }, 'model_not_supported', 'model_type'],
  [{ ...llama, architectures: ['LlamaForTokenClassification'] }, 'model_not_supported', 'architectures'],
  [{ ...llama, architectures: ['LlamaForSequenceClassification'] }, 'model_not_supported', 'num_labels'],
  [{ ...llama, hidden_act: 'relu' }, 'model_not_supported', 'hidden_act'],
  [{ ...llama, rope_scaling: { rope_type: 'yarn', factor: 4 } }, 'model_not_supported', 'rope_type'],
  [{ ...llama, partial_rotary_factor: 0.5 }, 'model_not_supported', 'partial_rotary_factor'],
  [{ ...llama, final_logit_softcapping: 30 }, 'model_not_supported', 'final_logit_softcapping'],
  [{ ...llama, quantization_config: { quant_method: 'gptq' } }, 'model_not_supported', 'quantization_config'],
  [
    { ...gpt2, scale_attn_by_inverse_layer_idx: true },
    'model_not_supported',
    'scale_attn_by_inverse_layer_idx',
  ],
  [{ ...gpt2, activation_function: 'tanh' }, 'model_not_supported', 'activation_function'],
  [{ ...llama, num_key_value_heads: 3 }, 'checkpoint_invalid', 'num_key_value_heads'],
  [{ ...llama, vocab_size: '96' }, 'checkpoint_invalid', 'vocab_size'],
  [{ ...llama, rope_scaling: { rope_type: 'linear' } }, 'checkpoint_invalid', 'factor'],
];

for (const [json, code, param] of refusals) {
  test(`a config is refused by the name of the key: ${param} (${code})`, () => {
    assert.throws(
      () => parseModelConfig(json),
      (error) => error instanceof AppError && error.code === code && error.param === param,
    );
  });
}

test('llama3 scaling keeps high frequencies, divides low ones by the factor and blends between', () => {
  const { position } = parseModelConfig({
    ...llama,
    rope_theta: 500000,
    rope_scaling: {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
  });
  assert.equal(position.kind, 'rotary');
  if (position.kind !== 'rotary') return;
  const scaled = rotaryFrequencies(position, 64);
  const plain = rotaryFrequencies({ ...position, scaling: { kind: 'none' } }, 64);
  const ratio = scaled.map((frequency, pair) => frequency / (plain[pair] as number));
  assert.equal(ratio[0], 1);
  assert.equal(ratio[31], 1 / 8);
  // theta^(-32/64) is pair 16: 8192 / (2 pi) / sqrt(500000) = 1.8438 turns, kept (1.8438 - 1) / 3.
  assert.ok(Math.abs((ratio[16] as number) - ((1 - 0.28128) / 8 + 0.28128)) < 1e-4);
});
