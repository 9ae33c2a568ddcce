import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Rng } from '../src/core/rng.js';
import { SafetensorsWriter } from '../src/models/checkpoint/safetensors-writer.js';
import { parseModelConfig } from '../src/models/transformer/model-config.js';
import { layoutOf } from '../src/train/model-weights.js';

export interface RandomLlama {
  readonly vocabulary: number;
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly mlp: number;
  readonly contextLength: number;
  readonly head: 'language' | 'reward';
  readonly seed: number;
  /** Standard deviation of the weights: larger is further from the uniform distribution. */
  readonly deviation: number;
}

/** Writes a llama of random weights, without a tokenizer, for tests and benchmarks that work on token ids. */
export function writeRandomLlama(directory: string, options: RandomLlama): string {
  const { head, seed, deviation } = options;
  mkdirSync(directory, { recursive: true });
  const config = {
    model_type: 'llama',
    architectures: [head === 'language' ? 'LlamaForCausalLM' : 'LlamaForSequenceClassification'],
    ...(head === 'reward' && { num_labels: 1 }),
    hidden_size: options.hidden,
    intermediate_size: options.mlp,
    num_hidden_layers: options.layers,
    num_attention_heads: options.heads,
    num_key_value_heads: options.heads,
    vocab_size: options.vocabulary,
    max_position_embeddings: options.contextLength,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    tie_word_embeddings: true,
  };
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
  const layout = layoutOf(parseModelConfig(config), [head === 'language' ? 'language' : 'score']);
  const rng = new Rng(seed);
  using writer = new SafetensorsWriter(
    join(directory, 'model.safetensors'),
    layout.entries.map(({ name, shape }) => ({ name, type: 'F32', shape })),
    { format: 'pt' },
  );
  for (const { name, length } of layout.entries) {
    const isNorm = name.includes('norm');
    const values = Float32Array.from({ length }, () => (isNorm ? 1 : rng.normal() * deviation));
    writer.write(name, values);
  }
  writer.commit();
  return directory;
}
