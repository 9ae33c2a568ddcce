/** PPO and PPO-ptx from a reward (Ouyang et al. 2022, section 3.5; docs/training.md has every formula and its source). */
import { AppError } from '../../core/errors.js';
import type { Runtime } from '../../models/runtime/session.js';
import type { Metrics, SampleEvent, StepEvent, StoppedEvent, StopReason, TrainEvent } from '../events.js';
import { exportModel } from '../export-model.js';
import type { PpoJob } from './ppo-job.js';
import { type Assessed, PpoRun, type UpdateOutcome } from './ppo-run.js';

/**
 * Trains from `place.model` to `place.output`, or goes on from the last checkpoint. A step is an iteration: one rollout and its update.
 *
 * A checkpoint holds weights together with the scored rollout that they made: it is written after the guards have passed that rollout and
 * before the update that it leads to. So a checkpoint of a collapsed policy is never written, and none replaces a good one.
 * @throws AppError `invalid_value`, `dataset_empty`, `example_too_long`, `checkpoint_invalid`, `run_mismatch`, and what the reward throws
 */
export async function* trainPpo(
  runtime: Runtime,
  job: PpoJob,
  { signal }: { readonly signal: AbortSignal },
): AsyncGenerator<TrainEvent> {
  using run = new PpoRun(runtime, job);
  run.resume();
  let metrics: Metrics = {};
  while (run.iteration < job.options.iterations) {
    const clock = new PhaseClock();
    const collected = await collect(run, signal, clock);
    if (collected === 'aborted') {
      yield* saved(run);
      yield stopped(run, 'aborted', 'The run was asked to stop.');
      return;
    }
    if (collected === 'not_finite') {
      run.discardCheckpoint();
      yield stopped(run, 'not_finite', 'The policy gives NaN or infinite logits; lower the learning rate.');
      return;
    }
    const assessed = clock.time('scoring', () => run.assess());
    const violation = run.violation(assessed);
    if (violation !== null) {
      run.discardCheckpoint();
      yield stopped(run, 'guard', violation);
      return;
    }
    if (run.isCheckpointDue) yield* saved(run);
    yield* samplesOf(run, assessed);
    const { rates, controller } = run;
    const outcome = clock.time('update', () => run.update(assessed));
    if (!outcome.isFinite) {
      yield stopped(run, 'not_finite', 'A loss or a gradient is not finite; lower the learning rate.');
      return;
    }
    metrics = {
      ...metricsOf(assessed, outcome, clock),
      klCoefficient: controller.coefficient,
      valueLearningRate: rates.value,
    };
    yield stepOf(run, assessed, outcome, { clock, learningRate: rates.policy, metrics });
  }
  const { model: source, output: directory, precision } = job.place;
  exportModel(run.actorCritic.policy.result, { source, directory, precision, head: { kind: 'language' } });
  yield* saved(run);
  yield { type: 'finished', step: run.iteration, metrics };
}

/** Rolls out what is left of the batch and has it scored. The signal is heard between groups of rows. */
async function collect(
  run: PpoRun,
  signal: AbortSignal,
  clock: PhaseClock,
): Promise<'ready' | 'aborted' | 'not_finite'> {
  while (!run.isRolledOut) {
    await new Promise(setImmediate);
    if (signal.aborted) return 'aborted';
    if (!clock.time('rollout', () => run.rollOutRows())) return 'not_finite';
  }
  try {
    await clock.timeAsync('scoring', () => run.score(signal));
  } catch (thrown) {
    if (thrown instanceof AppError && thrown.code === 'request_cancelled') return 'aborted';
    throw thrown;
  }
  return signal.aborted ? 'aborted' : 'ready';
}

function* saved(run: PpoRun): Generator<TrainEvent> {
  const path = run.save();
  if (path !== null) yield { type: 'checkpoint', step: run.iteration, path };
}

const stopped = (run: PpoRun, reason: StopReason, message: string): StoppedEvent => ({
  type: 'stopped',
  step: run.iteration,
  reason,
  message,
  checkpoint: run.latestCheckpoint,
});

function* samplesOf({ job, iteration }: PpoRun, { scored }: Assessed): Generator<SampleEvent> {
  for (const { episode, score } of scored.slice(0, job.samples)) {
    const { prompt, response } = episode;
    yield {
      type: 'sample',
      step: iteration + 1,
      prompt: job.decode(prompt),
      completion: job.decode(response),
      metrics: { reward: score, tokens: response.length },
    };
  }
}

const phases = ['rollout', 'scoring', 'update'] as const;
type Phase = (typeof phases)[number];

/** Milliseconds an iteration spends in each phase. */
class PhaseClock {
  readonly #spent: Record<Phase, number> = { rollout: 0, scoring: 0, update: 0 };

  time<T>(phase: Phase, work: () => T): T {
    const started = performance.now();
    const result = work();
    this.#spent[phase] += performance.now() - started;
    return result;
  }

  async timeAsync<T>(phase: Phase, work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    const result = await work();
    this.#spent[phase] += performance.now() - started;
    return result;
  }

  get seconds(): number {
    return phases.reduce((sum, phase) => sum + this.#spent[phase], 0) / 1000;
  }

  /** Share of the time and response tokens a second, by phase. */
  metrics(tokens: number): Metrics {
    return Object.fromEntries(
      phases.flatMap((phase) => {
        const seconds = this.#spent[phase] / 1000;
        return [
          [`${phase}Share`, seconds / this.seconds],
          [`${phase}TokensPerSecond`, tokens / seconds],
        ];
      }),
    );
  }
}

const responseTokens = ({ scored }: Assessed): number =>
  scored.reduce((sum, { episode }) => sum + episode.response.length, 0);

const metricsOf = (assessed: Assessed, { update, explained }: UpdateOutcome, clock: PhaseClock): Metrics => ({
  ...assessed.statistics,
  ...update.metrics,
  explainedVariance: explained,
  ...clock.metrics(responseTokens(assessed)),
});

function stepOf(
  run: PpoRun,
  assessed: Assessed,
  { update }: UpdateOutcome,
  told: { readonly clock: PhaseClock; readonly learningRate: number; readonly metrics: Metrics },
): StepEvent {
  const { batchSize, iterations } = run.job.options;
  const tokens = responseTokens(assessed);
  return {
    type: 'step',
    step: run.iteration,
    totalSteps: iterations,
    epoch: Math.floor(((run.iteration - 1) * batchSize) / run.job.prompts.length),
    loss: update.policyLoss,
    learningRate: told.learningRate,
    gradientNorm: update.policyGradientNorm,
    tokens,
    tokensPerSecond: tokens / told.clock.seconds,
    metrics: told.metrics,
  };
}
