import { join } from 'node:path';
import { AppError } from '../core/errors.js';
import type { EngineOptions } from './engine/engine.js';
import type { CheckpointSource } from './engine/engine-messages.js';
import { RemoteEngine } from './engine/remote-engine.js';
import { RemoteScorer } from './engine/remote-scorer.js';
import { EngineRewardModel } from './engine-reward-model.js';
import { EngineTextModel } from './engine-text-model.js';
import type { ModelRecord } from './registry.js';
import type { RewardModel } from './reward-model.js';
import type { RuntimeOptions } from './runtime/session.js';
import type { TextModel } from './text-model.js';
import { loadTokenizer } from './tokenizer/load-tokenizer.js';

/** A registry's record as a model that runs: wiring only. */

export interface LoadOptions {
  readonly runtime: RuntimeOptions;
  /** Limits of the engine; a context length over the checkpoint's own is cut to it. */
  readonly engine: EngineOptions;
  /** Where prepared weights are kept. */
  readonly cacheDirectory: string;
}

/**
 * Ready to complete. Throws `wrong_model_kind`, `tokenizer_not_supported`, `model_not_supported`, `checkpoint_invalid`,
 * `provider_unavailable`.
 */
export async function loadTextModel(record: ModelRecord, options: LoadOptions): Promise<TextModel> {
  const opening = RemoteEngine.open(record.id, {
    source: sourceOf(record, options),
    runtime: options.runtime,
    engine: options.engine,
  });
  const { opened: engine, tokenizer, chatTemplate } = await withTokenizer(record, opening);
  return new EngineTextModel({ id: record.id, engine, tokenizer, chatTemplate });
}

/** Ready to score. Throws as `loadTextModel` does. */
export async function loadRewardModel(record: ModelRecord, options: LoadOptions): Promise<RewardModel> {
  const { contextLength, maxQueuedRequests, maxQueuedPromptTokens } = options.engine;
  const opening = RemoteScorer.open(record.id, {
    source: sourceOf(record, options),
    runtime: options.runtime,
    options: { contextLength, maxQueuedRequests, maxQueuedTokens: maxQueuedPromptTokens },
  });
  const { opened: scorer, tokenizer, chatTemplate } = await withTokenizer(record, opening);
  return new EngineRewardModel({ id: record.id, scorer, tokenizer, chatTemplate });
}

/** The tokenizer is read on this thread while a worker opens the graph: together they are most of a boot. */
async function withTokenizer<T extends AsyncDisposable>(record: ModelRecord, opening: Promise<T>) {
  const [loaded, opened] = await Promise.allSettled([requireTokenizer(record), opening]);
  if (loaded.status === 'fulfilled' && opened.status === 'fulfilled') {
    return { ...loaded.value, opened: opened.value };
  }
  if (opened.status === 'fulfilled') await opened.value[Symbol.asyncDispose]();
  throw loaded.status === 'rejected' ? loaded.reason : (opened as PromiseRejectedResult).reason;
}

async function requireTokenizer(record: ModelRecord) {
  const loaded = await loadTokenizer(record.directory);
  if (loaded !== null) return loaded;
  throw new AppError(
    'tokenizer_not_supported',
    `Model '${record.id}' has no tokenizer.json, so it cannot be served as text; add one to ${record.directory}.`,
    { param: join(record.directory, 'tokenizer.json') },
  );
}

const sourceOf = (record: ModelRecord, { cacheDirectory }: LoadOptions): CheckpointSource => ({
  directory: record.directory,
  quantization: record.quantization,
  contentHash: record.contentHash,
  cacheDirectory,
});
