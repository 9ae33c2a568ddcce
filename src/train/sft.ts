/** Supervised fine-tuning: the likelihood of demonstrations' answers (Ouyang et al. 2022, section 3.5). */
import { AppError } from '../core/errors.js';
import { Rng } from '../core/rng.js';
import type { Runtime } from '../models/runtime/session.js';
import type { Example } from './data/examples.js';
import { lengthGroupedBatches, microBatches, shuffle } from './data/length-grouping.js';
import { dropoutFeeds, dropoutResidual } from './dropout.js';
import type { TrainEvent } from './events.js';
import { ForwardSession } from './forward.js';
import {
  floatFeed,
  languageFeeds,
  languageForwardGraph,
  languageLossGraph,
  learnedTokens,
} from './language-loss.js';
import type { ParameterArena } from './optim/parameter-arena.js';
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
  PRETRAINING_STREAM,
  requireExamples,
  type TrainingPlace,
  withActivations,
} from './training-job.js';

export interface SftOptions extends CommonOptions {
  /** Tokens that carry loss: the answer's alone, or all. */
  readonly loss: 'responses' | 'all';
  /** Share of a branch's elements that is dropped before it joins the residual stream, in [0, 1); the paper's is 0.2. */
  readonly dropout: number;
  /** Share of each batch's rows that are pretraining documents, in [0, 1); the paper's start of PPO has 0.1. */
  readonly pretrainingShare: number;
  /** Which epoch's weights are the result. `score` asks the job's scorer, as the paper did with its reward model. */
  readonly selection: 'last' | 'validation_loss' | 'score';
}

/** The paper's numbers at 1.3B and 6B: 16 epochs, batch 32, 9.65e-6 with cosine to 10 %, dropout 0.2. A smaller model wants a larger rate. */
export const instructGptSft = Object.freeze<SftOptions>({
  epochs: 16,
  batchSize: 32,
  microBatchTokens: 4096,
  learningRate: 9.65e-6,
  schedule: { type: 'cosine', warmUpSteps: 0, finalFraction: 0.1 },
  optimizer: instructGptAdam,
  averageDecay: null,
  seed: 0,
  loss: 'responses',
  dropout: 0.2,
  pretrainingShare: 0,
  selection: 'score',
});

export interface SftJob {
  readonly place: TrainingPlace;
  readonly options: SftOptions;
  readonly train: readonly Example[];
  /** Not trained on; may be empty. */
  readonly validation: readonly Example[];
  /** For the pretraining mix; may be empty where its share is 0. */
  readonly pretraining: readonly Example[];
  /** Score of an epoch's weights, higher is better; needed where `selection` is `score`. */
  readonly score?: (weights: ParameterArena, epoch: number) => Promise<number>;
}

/**
 * Trains from `place.model` to `place.output`, or goes on from the last checkpoint.
 * @throws AppError `checkpoint_invalid`, `run_mismatch`
 */
export async function* trainSft(
  runtime: Runtime,
  job: SftJob,
  { signal }: { readonly signal: AbortSignal },
): AsyncGenerator<TrainEvent> {
  checkJob(job);
  using model = openTrainable(runtime, job.place.model, ['language'], job.options);
  using objective = new SftObjective(runtime, model, job);
  yield* trainLoop(objective, { ...job.options, checkpoints: job.place.checkpoints }, signal);
}

function checkJob({ options, train, pretraining, validation, score }: SftJob): void {
  requireExamples(train);
  const refuse = (param: keyof SftOptions, message: string): never => {
    throw new AppError('invalid_value', message, { param });
  };
  if (options.pretrainingShare > 0 && pretraining.length === 0)
    refuse('pretrainingShare', 'A pretraining mix was asked for without pretraining documents.');
  if (options.selection === 'score' && score === undefined)
    refuse('selection', 'Selection by score needs a reward model; take validation_loss or last without one.');
  if (options.selection === 'validation_loss' && validation.length === 0)
    refuse('selection', 'Selection by validation loss needs validation data.');
}

class SftObjective implements Objective, Disposable {
  readonly model: Trainable;
  readonly identity: string;
  readonly #job: SftJob;
  readonly #train: readonly Example[];
  readonly #validation: readonly Example[];
  readonly #loss: LossSession;
  readonly #forward: ForwardSession;
  /** Pretraining documents, in the order in which they are met. */
  readonly #documents: readonly number[];

  constructor(runtime: Runtime, model: Trainable, job: SftJob) {
    const { options, pretraining } = job;
    this.model = model;
    this.#job = job;
    this.#train = withLossOn(job.train, options.loss);
    this.#validation = withLossOn(job.validation, options.loss);
    this.identity = identityOf(
      'sft',
      options,
      model.config,
      [job.train, job.validation, pretraining].map(digestExamples),
    );
    const all = [this.#train, this.#validation, pretraining].flat();
    const maxTime = all.reduce((longest, { tokens }) => Math.max(longest, tokens.length), 1);
    const residual = options.dropout > 0 ? { residual: dropoutResidual } : {};
    this.#loss = new LossSession(
      runtime,
      withActivations(languageLossGraph(model.config, { maxTime, ...residual }), options.activations),
      model.layout,
    );
    this.#forward = new ForwardSession(runtime, languageForwardGraph(model.config, { maxTime }));
    this.#documents = shuffle([...pretraining.keys()], new Rng(options.seed, PRETRAINING_STREAM));
  }

  /** Pretraining documents beside the demonstrations of a batch. */
  get #documentsABatch(): number {
    const { batchSize, pretrainingShare } = this.#job.options;
    return this.#documents.length === 0 ? 0 : Math.round(batchSize * pretrainingShare);
  }

  get #demonstrationsABatch(): number {
    return Math.max(1, this.#job.options.batchSize - this.#documentsABatch);
  }

  get batchesAnEpoch(): number {
    return Math.ceil(this.#train.length / this.#demonstrationsABatch);
  }

  batches(rng: Rng): number[][] {
    return lengthGroupedBatches(
      this.#train.map(({ tokens }) => tokens.length),
      this.#demonstrationsABatch,
      rng,
    );
  }

  accumulate(batch: readonly number[], { step }: { readonly step: number }): BatchReport {
    const rows = this.#rowsOf(batch, step);
    const learned = rows.reduce((sum, { example }) => sum + learnedTokens(example), 0);
    const { microBatchTokens } = this.#job.options;
    const pieces = microBatches(
      rows,
      ({ example }) => ({ rows: 1, time: example.tokens.length }),
      microBatchTokens,
    );
    let loss = 0;
    let padded = 0;
    for (const piece of pieces) {
      const { feeds, picked, time } = languageFeeds(piece.map(({ example }) => example));
      const weights = floatFeed(new Float32Array(picked).fill(1 / learned));
      const masks = this.#masks(piece, step, time);
      loss += this.model.accumulate(this.#loss, { ...feeds, ...masks, weights }).loss![0]!;
      padded += piece.length * time;
    }
    const tokens = rows.reduce((sum, { example }) => sum + example.tokens.length, 0);
    return {
      loss,
      tokens,
      metrics: { paddingShare: 1 - tokens / padded, learnedTokens: learned, microBatches: pieces.length },
    };
  }

  /** Demonstrations, and the pretraining documents whose turn it is; numbered apart, for their dropout masks. */
  #rowsOf(batch: readonly number[], step: number): { readonly id: number; readonly example: Example }[] {
    const documents = this.#documents;
    const mixed = Array.from({ length: this.#documentsABatch }, (_, i) => {
      const index = documents[(step * this.#documentsABatch + i) % documents.length]!;
      return { id: this.#train.length + index, example: this.#job.pretraining[index]! };
    });
    return [...batch.map((index) => ({ id: index, example: this.#train[index]! })), ...mixed];
  }

  #masks(piece: readonly { readonly id: number }[], step: number, time: number) {
    const { dropout, seed } = this.#job.options;
    if (dropout === 0) return {};
    return dropoutFeeds(this.model.config, {
      rate: dropout,
      seed,
      step,
      rows: piece.map(({ id }) => id),
      time,
    });
  }

  async evaluate(epoch: number): Promise<Evaluation> {
    const { selection } = this.#job.options;
    const metrics: Record<string, number> = {};
    if (this.#validation.length > 0) metrics.validationLoss = this.#meanLoss(this.#validation);
    if (this.#job.score !== undefined) metrics.score = await this.#job.score(this.model.result, epoch);
    const figures: Readonly<Record<SftOptions['selection'], number | null>> = {
      last: null,
      validation_loss: metrics.validationLoss === undefined ? null : -metrics.validationLoss,
      score: metrics.score ?? null,
    };
    return { metrics, selection: figures[selection], report: {} };
  }

  /** Nats a learned token, without dropout. */
  #meanLoss(examples: readonly Example[]): number {
    const learned = examples.reduce((sum, example) => sum + learnedTokens(example), 0);
    const sizeOf = ({ tokens }: Example) => ({ rows: 1, time: tokens.length });
    let total = 0;
    for (const piece of microBatches(examples, sizeOf, this.#job.options.microBatchTokens)) {
      const { feeds, picked } = languageFeeds(piece);
      const { logprobs } = this.#forward.run(feeds, this.model.result, { logprobs: picked });
      total -= logprobs!.reduce((sum, logprob) => sum + logprob, 0);
    }
    return total / learned;
  }

  keepResult(): void {
    exportTo(this.model, this.#job.place, { kind: 'language' });
  }

  [Symbol.dispose](): void {
    this.#loss[Symbol.dispose]();
    this.#forward[Symbol.dispose]();
  }
}

const withLossOn = (examples: readonly Example[], loss: SftOptions['loss']): readonly Example[] =>
  loss === 'all' ? examples.map(({ tokens }) => ({ tokens, start: 1 })) : examples;
