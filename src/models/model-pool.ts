import type { EngineOptions, EngineStats } from './engine/engine.js';
import type { HubOptions } from './import/hub-repository.js';
import type { ModelKind, ModelRecord, Quantization } from './registry.js';
import type { RewardModel } from './reward-model.js';
import type { CudaOptions, Provider } from './runtime/session.js';
import type { TextModel } from './text-model.js';

/** Models by name, ready to run: loads one when it is first asked for and keeps it. What the server's routes see of src/models. */
export interface ModelPool extends AsyncDisposable {
  /** What the models run on, for /v1/models and the log. */
  readonly provider: Provider;
  /** Why they run on that, one sentence for the log. */
  readonly providerChoice: string;
  list(): Promise<readonly ModelRecord[]>;
  /** Throws `model_not_found`. */
  get(id: string): Promise<ModelRecord>;
  /** Ready to complete; concurrent callers share one load. Throws `model_not_found`, `wrong_model_kind`, `out_of_memory`. */
  text(id: string): Promise<TextModel>;
  /** Ready to score. Throws `model_not_found`, `wrong_model_kind`, `out_of_memory`. */
  reward(id: string): Promise<RewardModel>;
  /** Checks the checkpoint whole before the model is listed. Throws `model_exists`, `model_not_supported`, `checkpoint_invalid`, `hub_failed`. */
  import(ask: ImportAsk, signal: AbortSignal): Promise<ModelRecord>;
  /** Unlists at once; requests in flight finish, then its memory and its files under DATA_DIR are freed. Throws `model_not_found`. */
  remove(id: string): Promise<void>;
  /** Engines in memory, for the metrics. */
  loaded(): Promise<readonly LoadedModel[]>;
}

export interface ImportAsk {
  readonly source:
    | { readonly type: 'directory'; readonly path: string }
    | { readonly type: 'hub'; readonly repository: string; readonly revision?: string };
  /** The name it is served under; by default the directory's or repository's last part. */
  readonly name?: string;
  /** By default what suits the provider: int8 on the CPU, none (float16) on CUDA. */
  readonly quantization?: Quantization;
}

export interface LoadedModel {
  readonly id: string;
  readonly kind: ModelKind;
  /** null for a reward model: it holds no slots. */
  readonly stats: EngineStats | null;
}

export interface ModelPoolOptions {
  /** DATA_DIR: the registry's file, imported checkpoints, quantised caches. */
  readonly directory: string;
  readonly provider: Provider | 'auto';
  /** Threads of one engine; undefined: as many as the machine has cores. */
  readonly threads?: number;
  /** What models on CUDA run with; nothing on the CPU. */
  readonly cuda?: CudaOptions;
  /** Limits of each engine. A context length over the checkpoint's own is cut to it. */
  readonly engine: EngineOptions;
  /** Loaded at start, so that the first request does not wait. */
  readonly preload: readonly string[];
  /** Where models are imported from by name. */
  readonly hub: HubOptions;
  /** For weights and KV caches of all loaded models; undefined: most of the machine's or container's memory. */
  readonly memoryBytes?: number;
}
