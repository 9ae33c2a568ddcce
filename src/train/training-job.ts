/** What every trainer of a checkpoint takes, and how a job opens its model. */
import { createHash } from 'node:crypto';
import { AppError } from '../core/errors.js';
import { Rng } from '../core/rng.js';
import type { Runtime } from '../models/runtime/session.js';
import { readModelConfig } from '../models/transformer/load-decoder.js';
import type { ModelConfig } from '../models/transformer/model-config.js';
import { byLayer } from './autodiff/recompute.js';
import type { Example } from './data/examples.js';
import { type ExportedHead, exportModel, type WeightPrecision } from './export-model.js';
import { freshScalarHead, type HeadName, layoutOf, loadWeights } from './model-weights.js';
import type { AdamWOptions } from './optim/adamw.js';
import type { LossGraph } from './step.js';
import type { CheckpointPolicy, LoopOptions } from './train-loop.js';
import { Trainable } from './trainable.js';

export interface TrainingPlace {
  /** A Hugging Face directory to start from. */
  readonly model: string;
  /** Where the result is written, as a Hugging Face directory. */
  readonly output: string;
  readonly precision: WeightPrecision;
  readonly checkpoints: CheckpointPolicy | null;
}

export type Activations = 'kept' | 'recomputed';

/** A graph with its layers recomputed in the backward pass, or as it is. */
export const withActivations = (graph: LossGraph, activations: Activations = 'kept'): LossGraph =>
  activations === 'kept' ? graph : { ...graph, segmentOf: byLayer };

/** Hyperparameters that all trainers have. */
export interface CommonOptions extends Omit<LoopOptions, 'checkpoints'> {
  /** Examples an optimizer step: demonstrations, or prompts with all their completions. */
  readonly batchSize: number;
  /** Tokens of a micro-batch, padding included: what bounds memory. The result does not depend on it. */
  readonly microBatchTokens: number;
  readonly optimizer: AdamWOptions;
  /** `recomputed` keeps a layer's input alone for the backward pass and computes the rest again: less memory, a third more arithmetic. */
  readonly activations?: Activations;
  /** Decay a step of the moving average that becomes the result, in [0, 1); null takes the last weights. */
  readonly averageDecay: number | null;
}

/** InstructGPT's Adam (Ouyang et al. 2022, appendix C): betas 0.9 and 0.95; no decay is given there. Clipping at 1 is this project's. */
export const instructGptAdam: AdamWOptions = Object.freeze({
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  epsilonForm: 'torch',
  weightDecay: 0,
  clipNorm: 1,
});

/** Loads a checkpoint for training; a scalar head that it lacks is drawn from the seed. */
export function openTrainable(
  runtime: Runtime,
  directory: string,
  heads: readonly HeadName[],
  { optimizer, averageDecay, seed }: Pick<CommonOptions, 'optimizer' | 'averageDecay' | 'seed'>,
): Trainable {
  const config = readModelConfig(directory);
  const model = new Trainable(runtime, config, layoutOf(config, heads), { optimizer, averageDecay });
  try {
    const head = heads.find((name) => name !== 'language');
    const rng = new Rng(seed, HEAD_STREAM);
    loadWeights(directory, model.parameters, head === undefined ? undefined : freshScalarHead(head, rng));
    model.startAverage();
    return model;
  } catch (thrown) {
    model[Symbol.dispose]();
    throw thrown;
  }
}

/** Streams of a run's seed: epochs count from 0, these lie beyond them. */
const HEAD_STREAM = 1 << 20;
export const PRETRAINING_STREAM = (1 << 20) + 1;

export const exportTo = (model: Trainable, place: TrainingPlace, head: ExportedHead): void =>
  exportModel(model.result, {
    source: place.model,
    directory: place.output,
    precision: place.precision,
    head,
  });

/** @throws AppError `dataset_empty` */
export function requireExamples(train: readonly unknown[]): void {
  if (train.length > 0) return;
  throw new AppError('dataset_empty', 'There is nothing to train on: the training set has no examples.', {
    param: 'train',
  });
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

/** A hash of what a run learns from. */
export const digestExamples = (examples: readonly Example[]): string =>
  digest(examples.map(({ tokens, start }) => `${start}:${tokens.join(',')}`).join('\n'));

/** The run's identity. How its batches are cut and its activations kept does not decide what comes out. */
export function identityOf(
  method: string,
  { microBatchTokens: _, activations: __, ...options }: CommonOptions,
  config: ModelConfig,
  data: readonly string[],
): string {
  return digest(JSON.stringify({ method, options, config, data }));
}
