/** Reward modelling from ranked completions (Ouyang et al. 2022, section 3.5, equation 1). */
import { AppError } from '../core/errors.js';
import type { Rng } from '../core/rng.js';
import type { Runtime } from '../models/runtime/session.js';
import { longestOf, pairBatches, pairFeeds, pairShare, rankedPairs, requirePairs } from './comparisons.js';
import type { Example, RankedExample } from './data/examples.js';
import { lengthGroupedBatches, microBatches } from './data/length-grouping.js';
import type { TrainEvent } from './events.js';
import { ForwardSession } from './forward.js';
import { rewardForwardGraph, rewardLossGraph, scoreFeeds } from './reward-loss.js';
import { type RewardReport, rewardReport } from './reward-report.js';
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

export interface RewardOptions extends CommonOptions {
  /** Which epoch's weights are the result. */
  readonly selection: 'last' | 'validation_accuracy';
}

/** The paper's: 1 epoch, 64 prompts a batch with all their pairs, 9e-6 with cosine to 10 %. A smaller model wants a larger rate. */
export const instructGptReward = Object.freeze<RewardOptions>({
  epochs: 1,
  batchSize: 64,
  microBatchTokens: 8192,
  learningRate: 9e-6,
  schedule: { type: 'cosine', warmUpSteps: 0, finalFraction: 0.1 },
  optimizer: instructGptAdam,
  averageDecay: null,
  seed: 0,
  selection: 'last',
});

export interface RewardJob {
  readonly place: TrainingPlace;
  readonly options: RewardOptions;
  readonly train: readonly RankedExample[];
  /** Held-out comparisons by what is held out: `prompts`, `labelers`. The first set that has any selects the epoch. */
  readonly heldOut: Readonly<Record<string, readonly RankedExample[]>>;
  /** What scores are centred on: their mean becomes 0. Where empty, the best completions of the training prompts are. */
  readonly demonstrations: readonly Example[];
}

/**
 * Trains a scalar head and its trunk from `place.model` (a language model, or a reward model to go on with) to `place.output`.
 * @throws AppError `checkpoint_invalid`, `run_mismatch`
 */
export async function* trainReward(
  runtime: Runtime,
  job: RewardJob,
  { signal }: { readonly signal: AbortSignal },
): AsyncGenerator<TrainEvent> {
  requirePairs(job.train);
  const isHeldOut = Object.values(job.heldOut).some((set) => set.length > 0);
  if (job.options.selection === 'validation_accuracy' && !isHeldOut)
    throw new AppError('invalid_value', 'Selection by accuracy needs held-out comparisons.', {
      param: 'selection',
    });
  using model = openTrainable(runtime, job.place.model, ['score'], job.options);
  using objective = new RewardObjective(runtime, model, job);
  yield* trainLoop(objective, { ...job.options, checkpoints: job.place.checkpoints }, signal);
}

class RewardObjective implements Objective, Disposable {
  readonly model: Trainable;
  readonly identity: string;
  readonly #job: RewardJob;
  readonly #loss: LossSession;
  readonly #forward: ForwardSession;

  constructor(runtime: Runtime, model: Trainable, job: RewardJob) {
    this.model = model;
    this.#job = job;
    const sets = [job.train, ...Object.values(job.heldOut)];
    this.identity = identityOf('reward', job.options, model.config, [
      ...sets.map((set) => digestExamples(set.flatMap(({ sequences }) => sequences))),
      JSON.stringify(job.train.map(({ ranks }) => ranks)),
      digestExamples(job.demonstrations),
    ]);
    const longest = [
      ...sets.flat().map(longestOf),
      ...job.demonstrations.map(({ tokens }) => tokens.length),
    ].reduce((most, length) => Math.max(most, length), 1);
    this.#loss = new LossSession(
      runtime,
      withActivations(rewardLossGraph(model.config, longest), job.options.activations),
      model.layout,
    );
    this.#forward = new ForwardSession(runtime, rewardForwardGraph(model.config, longest));
  }

  get batchesAnEpoch(): number {
    return Math.ceil(this.#job.train.length / this.#job.options.batchSize);
  }

  batches(rng: Rng): number[][] {
    return lengthGroupedBatches(this.#job.train.map(longestOf), this.#job.options.batchSize, rng);
  }

  accumulate(batch: readonly number[]): BatchReport {
    const prompts = batch.map((index) => this.#job.train[index]!);
    const pieces = pairBatches(prompts, this.#job.options.microBatchTokens);
    let loss = 0;
    let tokens = 0;
    const margins: number[] = [];
    for (const piece of pieces) {
      const lengths = { scores: piece.rows.length, margins: piece.winners.length };
      const feeds = { ...scoreFeeds(piece.rows), ...pairFeeds(piece) };
      const readings = this.model.accumulate(this.#loss, feeds, lengths);
      loss += readings.loss![0]!;
      margins.push(...readings.margins!);
      tokens += piece.rows.reduce((sum, row) => sum + row.tokens.length, 0);
    }
    const { right, total } = pairShare(margins);
    const margin = margins.reduce((sum, each) => sum + each, 0) / total;
    return {
      loss,
      tokens,
      metrics: { pairs: total, accuracy: right / total, margin, microBatches: pieces.length },
    };
  }

  async evaluate(): Promise<Evaluation> {
    const report: Record<string, RewardReport> = {};
    const metrics: Record<string, number> = {};
    for (const [name, comparisons] of Object.entries(this.#job.heldOut)) {
      if (comparisons.length === 0) continue;
      const found = rewardReport(this.#marginsOf(comparisons));
      report[name] = found;
      metrics[`${name}.accuracy`] = found.accuracy;
      metrics[`${name}.accuracyLow`] = found.interval.low;
      metrics[`${name}.accuracyHigh`] = found.interval.high;
      metrics[`${name}.loss`] = found.loss;
      metrics[`${name}.calibrationError`] = found.calibrationError;
    }
    const [first] = Object.values(report);
    const isSelecting = this.#job.options.selection === 'validation_accuracy';
    return { metrics, selection: isSelecting ? (first?.accuracy ?? null) : null, report };
  }

  keepResult(): void {
    const { demonstrations, train } = this.#job;
    const anchors =
      demonstrations.length > 0
        ? demonstrations
        : train.map(({ sequences, ranks }) => sequences[ranks.indexOf(Math.min(...ranks))]!);
    const scores = this.#scoresOf(anchors);
    const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
    exportTo(this.model, this.#job.place, { kind: 'reward', mean });
  }

  #marginsOf(comparisons: readonly RankedExample[]): number[] {
    const rows = comparisons.flatMap(({ sequences }) => sequences);
    const scores = new Map(this.#scoresOf(rows).map((score, i) => [rows[i]!, score]));
    return comparisons.flatMap(({ sequences, ranks }) =>
      rankedPairs(ranks).map(
        ([winner, loser]) => scores.get(sequences[winner]!)! - scores.get(sequences[loser]!)!,
      ),
    );
  }

  /** Head outputs, in the order of the rows. */
  #scoresOf(rows: readonly Example[]): number[] {
    const scores = new Array<number>(rows.length);
    const sizeOf = (index: number) => ({ rows: 1, time: rows[index]!.tokens.length });
    for (const piece of microBatches([...rows.keys()], sizeOf, this.#job.options.microBatchTokens)) {
      const feeds = scoreFeeds(piece.map((index) => rows[index]!));
      const found = this.#forward.run(feeds, this.model.result, { scores: piece.length }).scores!;
      for (const [i, index] of piece.entries()) scores[index] = found[i]!;
    }
    return scores;
  }

  [Symbol.dispose](): void {
    this.#loss[Symbol.dispose]();
    this.#forward[Symbol.dispose]();
  }
}
