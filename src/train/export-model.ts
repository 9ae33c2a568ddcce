/** A trained model as an ordinary Hugging Face directory. */
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { textFiles } from '../models/checkpoint/checkpoint-files.js';
import { float32ToBfloat16 } from '../models/checkpoint/float-formats.js';
import { SafetensorsWriter } from '../models/checkpoint/safetensors-writer.js';
import type { ArenaEntry, ParameterArena } from './optim/parameter-arena.js';

/** How weights are stored: bfloat16 halves the file, float32 keeps the trainer's numbers exactly. */
export type WeightPrecision = 'float32' | 'bfloat16';

export type ExportedHead =
  | { readonly kind: 'language' }
  /** @param mean the head's mean over demonstrations, taken off each score when the model is served */
  | { readonly kind: 'reward'; readonly mean: number };

export interface ExportOptions {
  /** The directory that the model was loaded from: its config.json and tokenizer files are kept. */
  readonly source: string;
  readonly directory: string;
  readonly precision: WeightPrecision;
  readonly head: ExportedHead;
}

/** model_type -> the class name's first part. */
const classPrefixes: Readonly<Record<string, string>> = {
  llama: 'Llama',
  mistral: 'Mistral',
  qwen2: 'Qwen2',
  qwen3: 'Qwen3',
  gpt2: 'GPT2',
};

/**
 * Writes config.json, tokenizer files and model.safetensors. A value head is left out. The weights come last: a directory with
 * model.safetensors is whole.
 */
export function exportModel(
  weights: ParameterArena,
  { source, directory, precision, head }: ExportOptions,
): void {
  mkdirSync(directory, { recursive: true });
  for (const name of textFiles) {
    if (name === 'config.json' || !existsSync(join(source, name))) continue;
    if (join(source, name) !== join(directory, name)) copyFileSync(join(source, name), join(directory, name));
  }
  const config = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8')) as Record<string, unknown>;
  const text = `${JSON.stringify(exportedConfig(config, precision, head), null, 2)}\n`;
  const partial = join(directory, `.config.json.${process.pid}.partial`);
  writeFileSync(partial, text);
  renameSync(partial, join(directory, 'config.json'));
  writeWeights(weights, join(directory, 'model.safetensors'), precision);
}

/** Keys of config.json that say what the source's head was, or how its weights were stored. */
const replacedKeys: ReadonlySet<string> = new Set([
  'dtype',
  'torch_dtype',
  'num_labels',
  'id2label',
  'label2id',
  'instructd',
]);

function exportedConfig(
  source: Record<string, unknown>,
  precision: WeightPrecision,
  head: ExportedHead,
): Record<string, unknown> {
  const kept = Object.entries(source).filter(([key]) => !replacedKeys.has(key));
  const named = { ...Object.fromEntries(kept), torch_dtype: precision };
  if (head.kind === 'language') return named;
  const prefix = classPrefixes[String(source.model_type)];
  return {
    ...named,
    architectures: [`${prefix}ForSequenceClassification`],
    id2label: { 0: 'reward' },
    label2id: { reward: 0 },
    instructd: { head: 'reward', mean: head.mean },
  };
}

function writeWeights(weights: ParameterArena, path: string, precision: WeightPrecision): void {
  const entries = weights.layout.entries.filter(({ name }) => !name.startsWith('value.'));
  const type = precision === 'float32' ? 'F32' : 'BF16';
  using writer = new SafetensorsWriter(
    path,
    entries.map(({ name, shape }) => ({ name, type, shape })),
    { format: 'pt' },
  );
  for (const entry of entries) writer.write(entry.name, stored(weights, entry, precision));
  writer.commit();
}

function stored(
  weights: ParameterArena,
  { offset, length }: ArenaEntry,
  precision: WeightPrecision,
): Float32Array | Uint16Array {
  const values = new Float32Array(length);
  weights.read(values, offset);
  if (precision === 'float32') return values;
  const halves = new Uint16Array(length);
  float32ToBfloat16(values, halves);
  return halves;
}
