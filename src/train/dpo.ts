/** Direct preference optimisation (Rafailov et al. 2023) on the comparisons that a reward model learns from. */
import type { Rng } from '../core/rng.js';
import type { Runtime } from '../models/runtime/session.js';
import { longestOf, type PairBatch, pairBatches, pairFeeds, pairShare, requirePairs } from './comparisons.js';
import type { Example, RankedExample } from './data/examples.js';
import { lengthGroupedBatches, microBatches } from './data/length-grouping.js';
import { answerFeeds, answerForwardGraph, dpoLossGraph } from './dpo-loss.js';
import type { TrainEvent } from './events.js';
import { ForwardSession } from './forward.js';
import { floatFeed } from './language-loss.js';
import { LossSession } from './step.js';
import { type BatchReport, type Evaluation, type Objective, trainLoop } from './train-loop.js';
import type { Trainable } from './trainable.js';
import {
  type CommonOptions,
  digestExamples,
  exportTo,
  identityOf,
  instructGptAdam,
  openTrainable,
  type TrainingPlace,
  withActivations,
} from './training-job.js';

export interface DpoOptions extends CommonOptions {
  /** Strength of the tie to the start policy, in (0, 2]; the paper's is 0.1. */
  readonly beta: number;
  /** Share of labels taken to be wrong, in [0, 0.5). */
  readonly labelSmoothing: number;
}

/** Beta, batch size, rate and warm-up of Rafailov et al. 2023, appendix B; their optimizer is RMSprop, this is Adam. */
export const paperDpo = Object.freeze<DpoOptions>({
  epochs: 1,
  batchSize: 64,
  microBatchTokens: 4096,
  learningRate: 1e-6,
  schedule: { type: 'constant', warmUpSteps: 150 },
  optimizer: { ...instructGptAdam, beta2: 0.999 },
  averageDecay: null,
  seed: 0,
  beta: 0.1,
  labelSmoothing: 0,
});

export interface DpoJob {
  readonly place: TrainingPlace;
  readonly options: DpoOptions;
  /** Completions with their end of text: `ExampleEncoder.answers`. */
  readonly train: readonly RankedExample[];
  readonly validation: readonly RankedExample[];
}

/**
 * Trains from `place.model`, which is also the reference, to `place.output`. The reference's log-probabilities are computed once, before
 * the first step.
 * @throws AppError `checkpoint_invalid`, `run_mismatch`
 */
export async function* trainDpo(
  runtime: Runtime,
  job: DpoJob,
  { signal }: { readonly signal: AbortSignal },
): AsyncGenerator<TrainEvent> {
  requirePairs(job.train);
  using model = openTrainable(runtime, job.place.model, ['language'], job.options);
  using objective = new DpoObjective(runtime, model, job);
  yield* trainLoop(objective, { ...job.options, checkpoints: job.place.checkpoints }, signal);
}

class DpoObjective implements Objective, Disposable {
  readonly model: Trainable;
  readonly identity: string;
  readonly #job: DpoJob;
  readonly #loss: LossSession;
  readonly #forward: ForwardSession;
  /** Of the start policy, by sequence. */
  readonly #reference: ReadonlyMap<Example, number>;

  constructor(runtime: Runtime, model: Trainable, job: DpoJob) {
    const { options, train, validation } = job;
    this.model = model;
    this.#job = job;
    this.identity = identityOf('dpo', options, model.config, [
      ...[train, validation].map((set) => digestExamples(set.flatMap(({ sequences }) => sequences))),
      JSON.stringify(train.map(({ ranks }) => ranks)),
    ]);
    const maxTime = [...train, ...validation].map(longestOf).reduce((most, time) => Math.max(most, time), 1);
    this.#loss = new LossSession(
      runtime,
      withActivations(dpoLossGraph(model.config, { ...options, maxTime }), options.activations),
      model.layout,
    );
    this.#forward = new ForwardSession(runtime, answerForwardGraph(model.config, maxTime));
    // Before a checkpoint is restored: these weights are the reference.
    this.#reference = this.#logprobsOf([...train, ...validation].flatMap(({ sequences }) => sequences));
  }

  get batchesAnEpoch(): number {
    return Math.ceil(this.#job.train.length / this.#job.options.batchSize);
  }

  batches(rng: Rng): number[][] {
    return lengthGroupedBatches(this.#job.train.map(longestOf), this.#job.options.batchSize, rng);
  }

  accumulate(batch: readonly number[]): BatchReport {
    const { microBatchTokens, beta } = this.#job.options;
    const prompts = batch.map((index) => this.#job.train[index]!);
    let loss = 0;
    let tokens = 0;
    const margins: number[] = [];
    for (const piece of pairBatches(prompts, microBatchTokens)) {
      const lengths = { logprobs: piece.rows.length, margins: piece.winners.length };
      const readings = this.model.accumulate(this.#loss, this.#feedsOf(piece), lengths);
      loss += readings.loss![0]!;
      margins.push(...readings.margins!);
      tokens += piece.rows.reduce((sum, row) => sum + row.tokens.length, 0);
    }
    return { loss, tokens, metrics: { pairs: margins.length, ...marginMetrics(margins, beta) } };
  }

  async evaluate(): Promise<Evaluation> {
    const { validation, options } = this.#job;
    if (validation.length === 0) return { metrics: {}, selection: null, report: {} };
    const now = this.#logprobsOf(validation.flatMap(({ sequences }) => sequences));
    const ratio = (row: Example) => now.get(row)! - this.#reference.get(row)!;
    const margins = pairBatches(validation, Infinity).flatMap(({ rows, winners, losers }) =>
      winners.map((winner, i) => ratio(rows[winner]!) - ratio(rows[losers[i]!]!)),
    );
    const { accuracy, rewardMargin } = marginMetrics(margins, options.beta);
    return {
      metrics: { validationAccuracy: accuracy, validationRewardMargin: rewardMargin },
      selection: null,
      report: {},
    };
  }

  keepResult(): void {
    exportTo(this.model, this.#job.place, { kind: 'language' });
  }

  #feedsOf(piece: PairBatch) {
    const reference = Float32Array.from(piece.rows, (row) => this.#reference.get(row)!);
    return { ...answerFeeds(piece.rows), ...pairFeeds(piece), reference: floatFeed(reference) };
  }

  #logprobsOf(rows: readonly Example[]): Map<Example, number> {
    const found = new Map<Example, number>();
    const sizeOf = ({ tokens }: Example) => ({ rows: 1, time: tokens.length });
    for (const piece of microBatches(rows, sizeOf, this.#job.options.microBatchTokens)) {
      const lengths = { logprobs: piece.length };
      const { logprobs } = this.#forward.run(answerFeeds(piece), this.model.result, lengths);
      for (const [i, row] of piece.entries()) found.set(row, logprobs![i]!);
    }
    return found;
  }

  [Symbol.dispose](): void {
    this.#loss[Symbol.dispose]();
    this.#forward[Symbol.dispose]();
  }
}

/** The implied reward is beta times the log-ratio. */
function marginMetrics(margins: readonly number[], beta: number) {
  const { right, total } = pairShare(margins);
  return {
    accuracy: right / total,
    rewardMargin: (beta * margins.reduce((sum, margin) => sum + margin, 0)) / total,
  };
}
