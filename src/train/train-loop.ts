/** What SFT, reward and DPO training share: epochs of batches, one optimizer step each, checkpoints, evaluation, an end with a reason. */
import { Rng } from '../core/rng.js';
import type { CheckpointEvent, EvaluationEvent, Metrics, StoppedEvent, TrainEvent } from './events.js';
import { createSchedule, type ScheduleOptions } from './optim/schedule.js';
import { StateStore } from './train-state.js';
import type { Trainable } from './trainable.js';

export interface CheckpointPolicy {
  readonly directory: string;
  /** Steps between two checkpoints. */
  readonly everySteps: number;
  /** Newest checkpoints that stay, at least 1. */
  readonly keep: number;
}

export interface LoopOptions {
  readonly epochs: number;
  /** Peak, per step. */
  readonly learningRate: number;
  readonly schedule: ScheduleOptions;
  readonly seed: number;
  readonly checkpoints: CheckpointPolicy | null;
}

export interface BatchReport {
  readonly loss: number;
  /** Without padding. */
  readonly tokens: number;
  readonly metrics: Metrics;
}

export interface Evaluation {
  readonly metrics: Metrics;
  /** Higher is better; null where the last weights are the result, whatever they score. */
  readonly selection: number | null;
  readonly report: EvaluationEvent['report'];
}

/** What a trainer learns: its batches and their gradients. */
export interface Objective {
  readonly model: Trainable;
  /** A hash of whatever decides the run: options, model and data. A checkpoint of another run is refused. */
  readonly identity: string;
  readonly batchesAnEpoch: number;
  /** The same for the same generator. */
  batches(rng: Rng): readonly (readonly number[])[];
  /** Accumulates the gradient of a batch of examples. */
  accumulate(batch: readonly number[], place: { readonly epoch: number; readonly step: number }): BatchReport;
  /** After each epoch. */
  evaluate(epoch: number): Promise<Evaluation>;
  /** Keeps the weights as they are as the run's result. */
  keepResult(): void;
}

interface Progress {
  step: number;
  best: number | null;
}

/**
 * Runs to the end, to an abort, or to a loss that is not finite. The position in the data is the step alone: each epoch's batches follow
 * from seed and epoch, so a resumed run meets the very batches that the undisturbed one would have.
 */
export async function* trainLoop(
  objective: Objective,
  options: LoopOptions,
  signal: AbortSignal,
): AsyncGenerator<TrainEvent, void> {
  const loop = new Loop(objective, options);
  loop.resume();
  const { batchesAnEpoch } = objective;
  while (loop.progress.step < loop.totalSteps) {
    const epoch = Math.floor(loop.progress.step / batchesAnEpoch);
    const batches = objective.batches(new Rng(options.seed, epoch));
    for (let at = loop.progress.step % batchesAnEpoch; at < batchesAnEpoch; at++) {
      // The signal's owner gets a turn.
      await new Promise(setImmediate);
      if (signal.aborted) {
        yield* loop.abort();
        return;
      }
      const stopped = yield* loop.step(batches[at]!, epoch);
      if (stopped) return;
      if (at === batchesAnEpoch - 1) yield await loop.evaluate(epoch);
      yield* loop.checkpointIfDue();
    }
  }
  yield { type: 'finished', step: loop.progress.step, metrics: loop.lastMetrics };
}

class Loop {
  readonly totalSteps: number;
  readonly progress: Progress = { step: 0, best: null };
  lastMetrics: Metrics = {};
  readonly #objective: Objective;
  readonly #options: LoopOptions;
  readonly #store: StateStore | null;

  constructor(objective: Objective, options: LoopOptions) {
    const { checkpoints } = options;
    this.#objective = objective;
    this.#options = options;
    this.totalSteps = options.epochs * objective.batchesAnEpoch;
    this.#store = checkpoints && new StateStore(checkpoints.directory, checkpoints.keep);
  }

  resume(): void {
    using saved = this.#store?.openLatest(this.#objective.identity) ?? null;
    if (saved === null) return;
    saved.restore('model', this.#objective.model);
    const { best, metrics } = saved.values as { readonly best: number | null; readonly metrics: Metrics };
    Object.assign(this.progress, { step: saved.step, best });
    this.lastMetrics = metrics;
  }

  /** One batch. Gives true where the run cannot go on. */
  *step(batch: readonly number[], epoch: number): Generator<TrainEvent, boolean> {
    const { model } = this.#objective;
    const started = performance.now();
    const { loss, tokens, metrics } = this.#objective.accumulate(batch, { epoch, step: this.progress.step });
    const learningRate =
      this.#options.learningRate *
      createSchedule(this.#options.schedule).factor(this.progress.step, this.totalSteps);
    const gradientNorm = Number.isFinite(loss) ? model.step(learningRate).gradientNorm : Number.NaN;
    if (!Number.isFinite(gradientNorm)) {
      yield this.#stopped(
        'not_finite',
        `Step ${this.progress.step + 1} has a loss of ${loss} and a gradient norm of ${gradientNorm}; lower the learning rate.`,
      );
      return true;
    }
    this.progress.step++;
    yield {
      type: 'step',
      step: this.progress.step,
      totalSteps: this.totalSteps,
      epoch,
      loss,
      learningRate,
      gradientNorm,
      tokens,
      tokensPerSecond: (1000 * tokens) / (performance.now() - started),
      metrics,
    };
    return false;
  }

  async evaluate(epoch: number): Promise<EvaluationEvent> {
    const { metrics, selection, report } = await this.#objective.evaluate(epoch);
    const { best } = this.progress;
    const isBest = selection === null || best === null || selection > best;
    if (isBest) {
      this.progress.best = selection;
      this.#objective.keepResult();
    }
    this.lastMetrics = metrics;
    return { type: 'evaluation', step: this.progress.step, epoch, metrics, best: isBest, report };
  }

  *checkpointIfDue(): Generator<CheckpointEvent> {
    const every = this.#options.checkpoints?.everySteps ?? Infinity;
    const { step } = this.progress;
    if (step % every === 0 || step === this.totalSteps) yield* this.#checkpoint();
  }

  *abort(): Generator<TrainEvent> {
    if (this.progress.step > 0) yield* this.#checkpoint();
    yield this.#stopped('aborted', 'The run was asked to stop.');
  }

  *#checkpoint(): Generator<CheckpointEvent> {
    if (this.#store === null) return;
    const { step, best } = this.progress;
    const path = this.#store.save({
      step,
      run: this.#objective.identity,
      models: { model: this.#objective.model },
      values: { best, metrics: this.lastMetrics },
      buffers: {},
    });
    yield { type: 'checkpoint', step, path };
  }

  #stopped(reason: StoppedEvent['reason'], message: string): StoppedEvent {
    return {
      type: 'stopped',
      step: this.progress.step,
      reason,
      message,
      checkpoint: this.#store?.latestPath ?? null,
    };
  }
}
