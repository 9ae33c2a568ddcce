import type { TokenId } from '../../core/units.js';
import type { Runtime } from '../../models/runtime/session.js';
import { LossSession } from '../step.js';
import type { Trainable } from '../trainable.js';
import type { Experience } from './actor-critic.js';
import { type PolicyPassOptions, policyGraph, pretrainingGraph } from './ppo-graphs.js';
import type { PpoHyperparameters } from './ppo-presets.js';
import {
  byRow,
  inLengthGroups,
  pickedFloats,
  pickedTokens,
  responseStates,
  sequenceBatch,
} from './sequence-batch.js';

export type PassContext = Pick<PpoHyperparameters, 'microBatchRows'> & PolicyPassOptions;

/** Sum of counts, what means over a minibatch are divided by. */
export const total = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);

/** 1 / tokens for each of them. */
export const meanWeights = (picked: number, tokens: number) =>
  pickedFloats([new Float32Array(picked).fill(1 / tokens)]);

/** What the policy's loss reads of some experiences, beside the batch itself. */
export const policyFeeds = (rows: readonly Experience[]) => ({
  targets: pickedTokens(rows.map(({ episode }) => episode.response)),
  old_logprobs: pickedFloats(rows.map(({ episode }) => episode.logprobs)),
  advantages: pickedFloats(rows.map(({ advantages }) => advantages)),
});

/** The states that the policy's loss is over, with the experience that they are of. */
export const responseSequence = (experience: Experience) => ({
  ...responseStates(experience.episode),
  experience,
});

export interface PolicyGradient {
  readonly loss: number;
  readonly logprobs: readonly Float32Array[];
}

/** The policy's gradients: the clipped surrogate, and PPO-ptx's likelihood of pretraining text. */
export class PolicyNetwork implements Disposable {
  readonly #model: Trainable;
  readonly #surrogate: LossSession;
  readonly #context: PassContext;

  constructor(runtime: Runtime, model: Trainable, context: PassContext, clip: number) {
    this.#model = model;
    this.#context = context;
    this.#surrogate = new LossSession(runtime, policyGraph(model.config, context, clip), model.layout);
  }

  /** Accumulates the gradient of the minibatch's mean over tokens. */
  accumulate(minibatch: readonly Experience[]): PolicyGradient {
    const { maxTime, microBatchRows } = this.#context;
    const tokens = total(minibatch.map(({ episode }) => episode.response.length));
    let loss = 0;
    const logprobs = inLengthGroups(minibatch.map(responseSequence), microBatchRows, (group) => {
      const { feeds, picked } = sequenceBatch(group, maxTime);
      const rows = group.map(({ experience }) => experience);
      const all = { ...feeds, ...policyFeeds(rows), weights: meanWeights(picked, tokens) };
      const readings = this.#model.accumulate(this.#surrogate, all, { logprobs: picked });
      loss += readings.loss![0]!;
      return byRow(
        readings.logprobs!,
        rows.map(({ episode }) => episode.response.length),
      );
    });
    return { loss, logprobs };
  }

  [Symbol.dispose](): void {
    this.#surrogate[Symbol.dispose]();
  }
}

/** PPO-ptx: coefficient * mean log-likelihood a pretraining token, its gradient added to the policy's own. */
export class PretrainingTerm implements Disposable {
  readonly #model: Trainable;
  readonly #session: LossSession;
  readonly #coefficient: number;
  readonly #microBatchRows: number;
  readonly #maxTime: number;

  /** @param maxTime longest document */
  constructor(
    runtime: Runtime,
    model: Trainable,
    {
      coefficient,
      microBatchRows,
      maxTime,
    }: { coefficient: number; microBatchRows: number; maxTime: number },
  ) {
    this.#model = model;
    this.#coefficient = coefficient;
    this.#microBatchRows = microBatchRows;
    this.#maxTime = maxTime;
    this.#session = new LossSession(runtime, pretrainingGraph(model.config, { maxTime }), model.layout);
  }

  /** Mean negative log-likelihood a token, without the coefficient; null without documents. */
  accumulate(documents: readonly (readonly TokenId[])[]): number | null {
    if (documents.length === 0) return null;
    const tokens = total(documents.map(({ length }) => length - 1));
    let loss = 0;
    const sequences = documents.map((ids) => ({ tokens: ids, first: 0, count: ids.length - 1 }));
    inLengthGroups(sequences, this.#microBatchRows, (rows) => {
      const { feeds, picked } = sequenceBatch(rows, this.#maxTime);
      const weights = meanWeights(picked, tokens / this.#coefficient);
      const targets = pickedTokens(rows.map((row) => row.tokens.slice(1)));
      loss += this.#model.accumulate(this.#session, { ...feeds, targets, weights }).loss![0]!;
      return rows;
    });
    return loss / this.#coefficient;
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}
