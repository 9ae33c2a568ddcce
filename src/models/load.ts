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
  const { tokenizer, chatTemplate } = await requireTokenizer(record);
  const engine = await RemoteEngine.open(record.id, {
    source: sourceOf(record, options),
    runtime: options.runtime,
    engine: options.engine,
  });
  return new EngineTextModel({ id: record.id, engine, tokenizer, chatTemplate });
}

/** Ready to score. Throws as `loadTextModel` does. */
export async function loadRewardModel(record: ModelRecord, options: LoadOptions): Promise<RewardModel> {
  const { tokenizer, chatTemplate } = await requireTokenizer(record);
  const { contextLength, maxQueuedRequests, maxQueuedPromptTokens } = options.engine;
  const scorer = await RemoteScorer.open(record.id, {
    source: sourceOf(record, options),
    runtime: options.runtime,
    options: { contextLength, maxQueuedRequests, maxQueuedTokens: maxQueuedPromptTokens },
  });
  return new EngineRewardModel({ id: record.id, scorer, tokenizer, chatTemplate });
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
