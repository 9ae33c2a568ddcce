import { rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { AppError, deserializeError } from '../../core/errors.js';
import { weightFormOf } from '../memory-plan.js';
import type { ImportAsk } from '../model-pool.js';
import { type ModelRecord, type ModelRegistry, parseModelId, type Quantization } from '../registry.js';
import { openRuntime } from '../runtime/open-runtime.js';
import type { Provider } from '../runtime/session.js';
import {
  type CheckpointSummary,
  type ImportProgress,
  inspectTexts,
  type StagingJob,
  type StagingMessage,
} from './checkpoint-staging.js';
import { downloadSnapshot, type Snapshot } from './hub.js';
import type { HubOptions } from './hub-repository.js';

export interface ImporterOptions {
  /** DATA_DIR. */
  readonly directory: string;
  /** Decides how weights are held where the caller does not. */
  readonly provider: Provider | 'auto';
  /** Positions a slot will have, at most. */
  readonly contextLength: number;
  readonly hub: HubOptions;
}

/** Where a checkpoint lies before it is staged. */
interface Source {
  readonly directory: string;
  readonly origin: ModelRecord['source'];
  /** Set where the files are ours: they are linked in place of copied, then deleted, or kept for the next attempt. */
  readonly snapshot: Snapshot | null;
}

/** Brings checkpoints into the registry: checked whole, copied, prepared for the provider. What fails half-way leaves nothing listed. */
export class Importer {
  readonly #registry: ModelRegistry;
  readonly #options: ImporterOptions;

  constructor(registry: ModelRegistry, options: ImporterOptions) {
    this.#registry = registry;
    this.#options = options;
  }

  /**
   * @returns The record as listed.
   * @throws AppError `model_exists`, `model_not_supported`, `checkpoint_invalid`, `tokenizer_not_supported`, `hub_failed`,
   *   `request_cancelled`.
   */
  async import(
    ask: ImportAsk,
    onProgress: (progress: ImportProgress) => void,
    signal: AbortSignal,
  ): Promise<ModelRecord> {
    const id = parseModelId(ask.name ?? lastPart(ask.source));
    await this.#refuseTaken(id);
    const source = await this.#fetch(ask.source, onProgress, signal);
    const staged = await this.#registry.stage();
    try {
      const provider = this.#provider();
      const quantization = ask.quantization ?? defaultQuantization(provider);
      const job: StagingJob = {
        from: source.directory,
        to: staged,
        link: source.snapshot !== null,
        form: weightFormOf(quantization, provider),
        contextLength: this.#options.contextLength,
      };
      const summary = await stageInWorker(job, onProgress, signal);
      const record = await this.#registry.add({
        ...summary,
        id,
        directory: staged,
        quantization,
        createdAt: new Date(),
        source: source.origin,
      });
      await source.snapshot?.discard();
      return record;
    } catch (error) {
      await rm(staged, { recursive: true, force: true });
      await (signal.aborted ? source.snapshot?.release() : source.snapshot?.discard());
      throw error;
    }
  }

  /** Before the long work; `add` decides. */
  async #refuseTaken(id: string): Promise<void> {
    if (!(await this.#registry.list()).some((record) => record.id === id)) return;
    throw new AppError('model_exists', `Model '${id}' exists; remove it first or choose another name.`, {
      param: 'name',
    });
  }

  async #fetch(
    source: ImportAsk['source'],
    onProgress: (progress: ImportProgress) => void,
    signal: AbortSignal,
  ): Promise<Source> {
    if (source.type === 'directory') {
      await requireDirectory(source.path);
      return { directory: source.path, origin: { type: 'directory', location: source.path }, snapshot: null };
    }
    const { repository, revision = 'main' } = source;
    const snapshot = await downloadSnapshot(
      this.#options.hub,
      { repository, revision },
      join(this.#options.directory, 'downloads'),
      inspectTexts,
      ({ received, total }) => onProgress({ stage: 'download', done: received, total }),
      signal,
    );
    return {
      directory: snapshot.directory,
      origin: { type: 'hub', location: repository, revision: snapshot.commit },
      snapshot,
    };
  }

  #provider(): Provider {
    using runtime = openRuntime({ provider: this.#options.provider });
    return runtime.provider;
  }
}

const defaultQuantization = (provider: Provider): Quantization => (provider === 'cuda' ? 'none' : 'int8');

const lastPart = (source: ImportAsk['source']): string =>
  basename(source.type === 'directory' ? source.path : source.repository);

async function requireDirectory(path: string): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found?.isDirectory()) return;
  throw new AppError(
    'checkpoint_invalid',
    `${path} is not a directory on this machine; a checkpoint is a directory with config.json and model.safetensors.`,
    { param: 'source.path' },
  );
}

/** Copying, hashing and quantising block their thread, so they have one of their own. */
function stageInWorker(
  job: StagingJob,
  onProgress: (progress: ImportProgress) => void,
  signal: AbortSignal,
): Promise<CheckpointSummary> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(cancelled());
    const worker = new Worker(new URL('./import-worker.js', import.meta.url), { workerData: job });
    const abort = () => void worker.terminate();
    signal.addEventListener('abort', abort, { once: true });
    worker.on('message', (message: StagingMessage) => {
      if (message.type === 'progress') onProgress(message.progress);
      else if (message.type === 'done') resolve(message.summary);
      else reject(deserializeError(message.error));
    });
    worker.on('error', reject);
    worker.on('exit', () => {
      signal.removeEventListener('abort', abort);
      reject(signal.aborted ? cancelled() : new Error('the import worker ended without a result'));
    });
  });
}

const cancelled = () => new AppError('request_cancelled', 'The import was cancelled; nothing was added.');
