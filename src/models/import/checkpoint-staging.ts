import { createHash, type Hash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { AppError, type SerializedError } from '../../core/errors.js';
import { Checkpoint } from '../checkpoint/checkpoint.js';
import { textFiles, weightsIndexFile } from '../checkpoint/checkpoint-files.js';
import { elementCount } from '../checkpoint/safetensors.js';
import type { ModelRecord } from '../registry.js';
import { loadTokenizer } from '../tokenizer/load-tokenizer.js';
import { buildDecoder } from '../transformer/build-decoder.js';
import { checkWeights } from '../transformer/check-weights.js';
import type { WeightForm } from '../transformer/decoder.js';
import { readModelConfig } from '../transformer/load-decoder.js';
import type { ModelConfig } from '../transformer/model-config.js';
import { prepareWeights } from '../transformer/prepare-weights.js';

export interface ImportProgress {
  readonly stage: 'download' | 'copy' | 'prepare';
  /** Bytes. */
  readonly done: number;
  /** 0 while it is not known. */
  readonly total: number;
}

export interface StagingJob {
  readonly from: string;
  /** An empty directory. */
  readonly to: string;
  /** Both are ours and on one file system: link the files in place of copying them. */
  readonly link: boolean;
  /** How the weights will be held. */
  readonly form: WeightForm;
  /** Positions a slot will have, at most. */
  readonly contextLength: number;
}

/** What the registry records of a checkpoint's content. */
export type CheckpointSummary = Pick<
  ModelRecord,
  'kind' | 'architecture' | 'parameters' | 'contextLength' | 'contentHash'
>;

/** What the worker that stages says. */
export type StagingMessage =
  | { readonly type: 'progress'; readonly progress: ImportProgress }
  | { readonly type: 'done'; readonly summary: CheckpointSummary }
  | { readonly type: 'failed'; readonly error: SerializedError };

/** Where a model's weights are kept as they are served: beside the checkpoint, so that they go with it. */
export const preparedDirectory = (modelDirectory: string): string => join(modelDirectory, 'prepared');

const CHUNK_BYTES = 4 << 20;

/**
 * Checks a checkpoint (architecture, tokenizer, every tensor's presence and shape by the headers alone), then copies it into the
 * staging directory while hashing it, then prepares the weights that will be served, which reads every value.
 * Blocks its thread. Throws `model_not_supported`, `tokenizer_not_supported`, `checkpoint_invalid`.
 */
export async function stageCheckpoint(
  job: StagingJob,
  onProgress: (progress: ImportProgress) => void,
): Promise<CheckpointSummary> {
  const config = await inspectTexts(job.from);
  const { specs, files, parameters } = inspectWeights(job, config);
  const contentHash = takeFiles(job, files, onProgress);
  onProgress({ stage: 'prepare', done: 0, total: 0 });
  const directory = preparedDirectory(job.to);
  mkdirSync(directory);
  prepareWeights(() => Checkpoint.open(job.to), specs, { directory, contentHash })[Symbol.dispose]();
  return {
    kind: config.head.kind,
    architecture: config.architecture,
    parameters,
    contextLength: config.contextLength,
    contentHash,
  };
}

/** What can be known before any weight is there: that the architecture, the tokenizer and the chat template can run. */
export async function inspectTexts(directory: string): Promise<ModelConfig> {
  const config = readModelConfig(directory);
  if ((await loadTokenizer(directory)) !== null) return config;
  throw new AppError(
    'tokenizer_not_supported',
    `${directory} has no tokenizer.json, so it could not be served as text.`,
    { param: 'tokenizer.json' },
  );
}

/** Every tensor that the model needs is there in its shape, by the headers alone. */
function inspectWeights(job: StagingJob, config: ModelConfig) {
  using checkpoint = Checkpoint.open(job.from);
  const graph = buildDecoder(config, checkpoint.tensors, {
    form: job.form,
    maxPositions: Math.min(job.contextLength, config.contextLength),
  });
  checkWeights(checkpoint, graph.weights);
  const tensors = [...checkpoint.tensors.values()];
  return {
    specs: graph.weights,
    files: [...new Set(tensors.map(({ file }) => basename(file)))].sort(),
    parameters: tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
  };
}

/** @returns SHA-256 over config.json and the weight files, in this order, the latter by name. */
function takeFiles(
  { from, to, link }: StagingJob,
  weights: readonly string[],
  onProgress: (progress: ImportProgress) => void,
): string {
  const hashed = ['config.json', ...weights];
  const others = [...textFiles, weightsIndexFile].filter(
    (name) => !hashed.includes(name) && existsSync(join(from, name)),
  );
  const hash = createHash('sha256');
  const total = hashed.reduce((sum, name) => sum + statSync(join(from, name)).size, 0);
  let done = 0;
  const take = link ? linkFile : copyFile;
  for (const name of others) take(join(from, name), join(to, name), createHash('sha256'), () => {});
  for (const name of hashed)
    take(join(from, name), join(to, name), hash, (bytes) => {
      done += bytes;
      onProgress({ stage: 'copy', done, total });
    });
  return hash.digest('hex');
}

type TakeFile = (from: string, to: string, hash: Hash, onBytes: (bytes: number) => void) => void;

const linkFile: TakeFile = (from, to, hash, onBytes) => {
  linkSync(from, to);
  readChunks(from, (chunk) => {
    hash.update(chunk);
    onBytes(chunk.byteLength);
  });
};

const copyFile: TakeFile = (from, to, hash, onBytes) => {
  const copy = openSync(to, 'wx');
  try {
    readChunks(from, (chunk) => {
      for (let written = 0; written < chunk.byteLength; ) written += writeSync(copy, chunk, written);
      hash.update(chunk);
      onBytes(chunk.byteLength);
    });
    fsyncSync(copy);
  } finally {
    closeSync(copy);
  }
};

function readChunks(path: string, onChunk: (chunk: Uint8Array) => void): void {
  const file = openSync(path, 'r');
  const buffer = new Uint8Array(CHUNK_BYTES);
  try {
    for (let count = readSync(file, buffer); count > 0; count = readSync(file, buffer))
      onChunk(buffer.subarray(0, count));
  } finally {
    closeSync(file);
  }
}
