import type { TokenId } from '../../core/units.js';
import type { UpdateReport } from '../optim/adamw.js';
import type { Trainable } from '../trainable.js';
import type { Episode } from './rollout.js';

/** An episode with what an update learns from it. */
export interface Experience {
  readonly episode: Episode;
  /** One a response token. */
  readonly advantages: Float32Array;
  /** One a state: before each response token, and after the EOS where that state carries the score. */
  readonly values: Float32Array;
  readonly returns: Float32Array;
}

export interface LearningRates {
  readonly policy: number;
  readonly value: number;
}

/** One optimizer step's numbers, before the step. */
export interface MinibatchReport {
  readonly policyLoss: number;
  readonly valueLoss: number;
  /** Mean negative log-likelihood a pretraining token, without its coefficient; null without pretraining rows. */
  readonly pretrainingLoss: number | null;
  /** The trainer's own log-probabilities of the responses, by row of the minibatch. */
  readonly logprobs: readonly Float32Array[];
  readonly policy: UpdateReport;
  /** null where policy and value function share a step. */
  readonly value: UpdateReport | null;
}

/** Policy and value function, however they share networks. Owns their memory. */
export interface ActorCritic extends Disposable {
  readonly policy: Trainable;
  /** What a checkpoint holds, by name. */
  readonly models: Readonly<Record<string, Trainable>>;
  /** Values of the first states of each response, as many as asked. */
  values(episodes: readonly Episode[], counts: readonly number[]): Float32Array[];
  /**
   * One optimizer step on a minibatch: means over its tokens, however it is cut into micro-batches.
   * @param documents pretraining text for PPO-ptx; its gradient joins the policy's before the step
   */
  learn(
    minibatch: readonly Experience[],
    documents: readonly (readonly TokenId[])[],
    rates: LearningRates,
  ): MinibatchReport;
}
