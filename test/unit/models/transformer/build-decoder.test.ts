import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '../../../../src/core/errors.js';
import { buildDecoder } from '../../../../src/models/transformer/build-decoder.js';
import { parseModelConfig } from '../../../../src/models/transformer/model-config.js';
import { missingCudaKernels } from '../../../cuda-coverage.js';

const shared = {
  vocab_size: 131,
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  tie_word_embeddings: false,
};
const configs = {
  llama: { ...shared, model_type: 'llama', attention_bias: true, mlp_bias: true },
  'llama with gelu and heads of 12': { ...shared, model_type: 'llama', hidden_act: 'gelu', head_dim: 12 },
  'llama reward': { ...shared, model_type: 'llama', instructd: { head: 'reward', mean: 0 } },
  mistral: { ...shared, model_type: 'mistral', sliding_window: 8 },
  qwen2: { ...shared, model_type: 'qwen2', tie_word_embeddings: true },
  qwen3: { ...shared, model_type: 'qwen3', head_dim: 16 },
  gpt2: { model_type: 'gpt2', vocab_size: 131, n_embd: 64, n_head: 4, n_layer: 2, n_positions: 64 },
};
const noNames = { has: () => false };

for (const [name, json] of Object.entries(configs)) {
  test(`every node of the float16 graph of ${name} has a CUDA kernel`, () => {
    const { graph } = buildDecoder(parseModelConfig(json), noNames, { form: 'float16', maxPositions: 64 });
    assert.deepEqual(missingCudaKernels(graph), []);
  });
}

for (const [name, carrier] of [
  ['llama', 'layers.0.attention.qkv'],
  ['qwen3', 'layers.0.attention.query_norm'],
  ['gpt2', 'layers.0.attention.qkv'],
] as const) {
  test(`${name}: 1/sqrt(head) is in the weights of ${carrier} on the CPU, and in attention on CUDA`, () => {
    const scaled = (form: 'int8' | 'float16') =>
      buildDecoder(parseModelConfig(configs[name]), noNames, { form, maxPositions: 64 })
        .weights.filter(({ source }) => {
          const factor =
            'matrix' in source ? source.matrix.scaled : source.kind === 'vector' ? source.scaled : undefined;
          return factor !== undefined && factor.factor !== 1;
        })
        .map((weight) => weight.name);
    assert.ok(scaled('int8').some((weight) => weight.startsWith(carrier)));
    assert.ok(scaled('int8').every((weight) => /attention\.(qkv|query_norm)/.test(weight)));
    assert.deepEqual(scaled('float16'), []);
  });
}

test('int8 blocks are 64 wide but 32 for query, key and value, and wherever 64 does not divide the inputs', () => {
  const widths = (json: object, form: 'int8' | 'int4') =>
    Object.fromEntries(
      buildDecoder(parseModelConfig(json), noNames, { form, maxPositions: 64 }).weights.flatMap(
        ({ name, source }) =>
          source.kind === 'scales' && /^(layers.0|head)/.test(name)
            ? [[name.replace('.scales', ''), source.blocking.block]]
            : [],
      ),
    );
  const layer = 'layers.0';
  assert.deepEqual(widths(configs.llama, 'int8'), {
    [`${layer}.attention.qkv`]: 32,
    [`${layer}.attention.output`]: 64,
    [`${layer}.mlp.gate_up`]: 64,
    // 96 inputs
    [`${layer}.mlp.down`]: 32,
    head: 64,
  });
  assert.ok(
    Object.entries(widths(configs.gpt2, 'int4')).every(
      ([name, block]) => block === (name === 'head' ? 64 : 32),
    ),
  );
});

test('an int8 llama layer is ten nodes', () => {
  const config = parseModelConfig({ ...shared, model_type: 'llama' });
  const nodes = (layers: number) =>
    buildDecoder({ ...config, layers, attentionWindow: new Array<null>(layers).fill(null) }, noNames, {
      form: 'int8',
      maxPositions: 64,
    }).graph.nodes.length;
  assert.equal(nodes(3) - nodes(2), 10);
});

test('a tied float32 head is the embedding table itself, and a quantised one reads the same tensor', () => {
  const config = parseModelConfig({ ...shared, model_type: 'llama', tie_word_embeddings: true });
  const readers = (form: 'float32' | 'int4') =>
    buildDecoder(config, noNames, { form, maxPositions: 64 })
      .weights.filter(
        ({ source }) => 'matrix' in source && source.matrix.parts[0]?.tensor === 'model.embed_tokens.weight',
      )
      .map(({ name, type }) => `${name} ${type}`);
  assert.deepEqual(readers('float32'), ['embedding float32']);
  assert.deepEqual(readers('int4'), ['embedding float16', 'head.blocks uint8', 'head.scales float32']);
});

test('a longer context than the model was made for is refused with both numbers', () => {
  const config = parseModelConfig({ ...shared, model_type: 'llama' });
  assert.throws(
    () => buildDecoder(config, noNames, { form: 'float32', maxPositions: 65 }),
    (error) => error instanceof AppError && /65 .* 64/.test(error.message),
  );
});

test('a trunk saved without its prefix is found under the names it has', () => {
  const config = parseModelConfig(configs.gpt2);
  const names = new Set(['wte.weight']);
  const { weights } = buildDecoder(config, names, { form: 'float32', maxPositions: 64 });
  const embedding = weights.find(({ name }) => name === 'embedding');
  assert.ok(embedding?.source.kind === 'matrix');
  assert.equal(embedding.source.matrix.parts[0]?.tensor, 'wte.weight');
});
