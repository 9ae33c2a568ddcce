import type { RuntimeOptions } from '../runtime/session.js';
import type { CheckpointSource } from './engine-messages.js';
import type { ScoreReport, ScoreRequest } from './score-core.js';
import type { LaneId } from './sequence.js';

/** What crosses the port between a reward model and its worker thread. */

export interface ScoreOptions {
  /** Tokens a sequence. */
  readonly contextLength: number;
  /** Sequences that may wait. */
  readonly maxQueuedRequests: number;
  /** Tokens that may wait. */
  readonly maxQueuedTokens: number;
}

export interface ScoreWorkerData {
  readonly source: CheckpointSource;
  readonly runtime: RuntimeOptions;
  readonly options: ScoreOptions;
}

export interface ScoreReady {
  readonly provider: 'cpu' | 'cuda';
  readonly vocabularySize: number;
  readonly contextLength: number;
  /** The head's mean over demonstrations; 0 where the checkpoint has none. */
  readonly mean: number;
}

export type ToScorer =
  | { readonly type: 'score'; readonly lane: LaneId; readonly request: ScoreRequest }
  | { readonly type: 'cancel'; readonly lane: LaneId }
  | { readonly type: 'stop' };

export interface FromScorer {
  readonly reports: readonly ScoreReport[];
}
