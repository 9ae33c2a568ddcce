/** What a training run tells, as an async iterable: the same shape for every trainer, with each trainer's own numbers under `metrics`. */

import type { RewardReport } from './reward-report.js';

export type Metrics = Readonly<Record<string, number>>;

export interface StepEvent {
  readonly type: 'step';
  /** Optimizer steps done, this one included; counts on over a resume. */
  readonly step: number;
  readonly totalSteps: number;
  /** From 0. */
  readonly epoch: number;
  /** Mean over what the loss counts (tokens, pairs), before the step. */
  readonly loss: number;
  readonly learningRate: number;
  /** Global norm before clipping. */
  readonly gradientNorm: number;
  /** Of this batch, padding not counted. */
  readonly tokens: number;
  readonly tokensPerSecond: number;
  readonly metrics: Metrics;
}

export interface EvaluationEvent {
  readonly type: 'evaluation';
  readonly step: number;
  readonly epoch: number;
  readonly metrics: Metrics;
  /** The best of the run so far by the trainer's selection, and kept as its result. */
  readonly best: boolean;
  /** What a reward model's preferences are worth, by held-out set; empty for other trainers. */
  readonly report: Readonly<Record<string, RewardReport>>;
}

export interface CheckpointEvent {
  readonly type: 'checkpoint';
  readonly step: number;
  readonly path: string;
}

/** A text that the model wrote, for people to look at. */
export interface SampleEvent {
  readonly type: 'sample';
  readonly step: number;
  readonly prompt: string;
  readonly completion: string;
  readonly metrics: Metrics;
}

export interface FinishedEvent {
  readonly type: 'finished';
  readonly step: number;
  readonly metrics: Metrics;
}

export type StopReason =
  | 'aborted' // by the signal
  | 'not_finite' // a loss or a gradient is NaN or infinite
  | 'guard'; // a ceiling or floor that the configuration sets

/** The run ended before its last step. What it had is in the last checkpoint. */
export interface StoppedEvent {
  readonly type: 'stopped';
  readonly step: number;
  readonly reason: StopReason;
  readonly message: string;
  /** The checkpoint to resume from; null where none was written. */
  readonly checkpoint: string | null;
}

export type TrainEvent =
  | StepEvent
  | EvaluationEvent
  | CheckpointEvent
  | SampleEvent
  | FinishedEvent
  | StoppedEvent;
