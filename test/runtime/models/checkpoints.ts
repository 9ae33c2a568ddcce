import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { elementCount, SafetensorsFile } from '../../../src/models/checkpoint/safetensors.js';
import { SafetensorsWriter } from '../../../src/models/checkpoint/safetensors-writer.js';
import type { EngineOptions } from '../../../src/models/engine/engine.js';
import type { CheckpointSource, EngineWorkerData } from '../../../src/models/engine/engine-messages.js';
import { greedySampling } from '../../../src/models/engine/sampler.js';
import type { ModelRecord } from '../../../src/models/registry.js';
import { sharedPath } from '../../shared.js';

/** Real checkpoints for tests: five tiny architectures, SmolLM2, and a reward model made of a tiny one. */

const scratch = mkdtempSync(join(tmpdir(), 'instructd-test-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

export const greedy = greedySampling;

export const sourceOf = (directory: string, contentHash: string): CheckpointSource => {
  const cacheDirectory = join(scratch, 'cache');
  mkdirSync(cacheDirectory, { recursive: true });
  return { directory, quantization: 'none', contentHash, cacheDirectory };
};

export const engineOptions: EngineOptions = {
  slots: 4,
  contextLength: 64,
  prefillChunk: 8,
  maxQueuedRequests: 64,
  maxQueuedPromptTokens: 4096,
  laneBuffer: 64,
};

export const tinyEngine = (architecture: string, change: Partial<EngineOptions> = {}): EngineWorkerData => ({
  source: sourceOf(sharedPath('reference', architecture), architecture),
  runtime: { provider: 'cpu', threads: 1 },
  engine: { ...engineOptions, ...change },
});

/** Arrays of reference.safetensors. */
export function referenceOf(architecture: string) {
  const path = sharedPath('reference', architecture, 'reference.safetensors');
  const file = readFileSync(path);
  const header = new SafetensorsFile(path);
  const bytes = (name: string) => {
    const tensor = header.tensors.get(name);
    if (tensor === undefined) throw new Error(`${path} lacks ${name}`);
    const { offset, byteLength, shape } = tensor;
    return {
      data: file.buffer.slice(file.byteOffset + offset, file.byteOffset + offset + byteLength),
      shape,
    };
  };
  return {
    floats: (name: string) => new Float32Array(bytes(name).data),
    /** [rows][columns] */
    ids: (name: string) => {
      const { data, shape } = bytes(name);
      const all = [...new Int32Array(data)];
      const columns = shape[1] as number;
      return Array.from({ length: shape[0] as number }, (_, row) =>
        all.slice(row * columns, (row + 1) * columns),
      );
    },
  };
}

/** A tiny architecture's trunk with the reference's reward head on it, as Hugging Face saves a sequence classifier. */
export function rewardCheckpoint(architecture: string, mean: number): string {
  const directory = join(scratch, `${architecture}-reward`);
  cpSync(sharedPath('reference', architecture), directory, { recursive: true });
  const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8')) as object;
  writeFileSync(
    join(directory, 'config.json'),
    JSON.stringify({ ...config, instructd: { head: 'reward', mean } }),
  );
  const reference = referenceOf(architecture);
  const trunk = new SafetensorsFile(sharedPath('reference', architecture, 'model.safetensors'));
  const file = readFileSync(trunk.file);
  const weight = reference.floats('rm/head_weight');
  using writer = new SafetensorsWriter(join(directory, 'model.safetensors'), [
    ...[...trunk.tensors.values()].map(({ name, type, shape }) => ({ name, type, shape })),
    { name: 'score.weight', type: 'F32', shape: [1, weight.length] },
    { name: 'score.bias', type: 'F32', shape: [1] },
  ]);
  for (const { name, offset, shape } of trunk.tensors.values()) {
    const from = file.byteOffset + offset;
    writer.write(name, new Float32Array(file.buffer.slice(from, from + 4 * elementCount(shape))), 0);
  }
  writer.write('score.weight', weight, 0);
  writer.write('score.bias', reference.floats('rm/head_bias'), 0);
  writer.commit();
  return directory;
}

/** SmolLM2-135M-Instruct in Hugging Face layout, unpacked once a machine. */
export function smollm2Record(quantization: ModelRecord['quantization']): ModelRecord {
  const directory = join(tmpdir(), 'instructd-smollm2');
  execFileSync(process.execPath, [sharedPath('models', 'unpack.mjs'), directory]);
  return {
    id: 'smollm2',
    kind: 'language',
    directory,
    quantization,
    architecture: 'llama',
    parameters: 134_515_008,
    contextLength: 8192,
    contentHash: 'smollm2-135m-instruct',
    createdAt: new Date(0),
    source: { type: 'directory', location: directory },
  };
}

/** Prepared weights of SmolLM2 are kept between test files. */
export const smollm2Cache = (): string => {
  const directory = join(tmpdir(), 'instructd-smollm2-cache');
  mkdirSync(directory, { recursive: true });
  return directory;
};
