import type { RuntimeOptions } from '../runtime/session.js';
import type { EngineOptions, EngineStats, GenerateRequest } from './engine.js';
import type { LaneReport } from './engine-core.js';
import type { LaneId } from './sequence.js';

/** What crosses the port between an engine and its worker thread. */

/** The checkpoint that a worker opens. */
export interface CheckpointSource {
  /** Directory in Hugging Face layout. */
  readonly directory: string;
  readonly quantization: 'none' | 'int8' | 'int4';
  /** Names the weights: keys the quantised cache and the prefix cache. */
  readonly contentHash: string;
  /** Where quantised weights are kept. */
  readonly cacheDirectory: string;
}

export interface EngineWorkerData {
  readonly source: CheckpointSource;
  readonly runtime: RuntimeOptions;
  readonly engine: EngineOptions;
}

/** What the worker found when it opened the model. */
export interface EngineReady {
  readonly provider: 'cpu' | 'cuda';
  readonly vocabularySize: number;
  /** The option's, cut to what the model can address. */
  readonly contextLength: number;
}

export type ToEngine =
  | { readonly type: 'generate'; readonly lane: LaneId; readonly request: GenerateRequest }
  | { readonly type: 'finish'; readonly lane: LaneId; readonly sequence: number }
  | { readonly type: 'cancel'; readonly lane: LaneId }
  /** The lane's reader took this many tokens. */
  | { readonly type: 'credit'; readonly lane: LaneId; readonly tokens: number }
  | { readonly type: 'stop' };

/** One a step, and one after messages that changed something between steps. */
export interface FromEngine {
  readonly reports: readonly LaneReport[];
  readonly stats: EngineStats;
}
