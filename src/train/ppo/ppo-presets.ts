import type { AdamWOptions } from '../optim/adamw.js';
import type { ScheduleOptions } from '../optim/schedule.js';
import type { VarianceForm } from '../ppo-math.js';

/** How the value function stands beside the policy. */
export type CriticOptions =
  /** A network and an optimizer of its own. */
  | { readonly type: 'separate'; readonly learningRate: number }
  /** A network of its own in the policy's optimizer: same rate and schedule, its loss times the coefficient. */
  | { readonly type: 'joint'; readonly coefficient: number }
  /** A scalar head on the policy's trunk, its loss times the coefficient. */
  | { readonly type: 'shared_trunk'; readonly coefficient: number };

export type KlOptions =
  | { readonly type: 'fixed'; readonly coefficient: number }
  /** Ziegler et al. 2019: target in nats a sequence, horizon in episodes. */
  | {
      readonly type: 'adaptive';
      readonly coefficient: number;
      readonly target: number;
      readonly horizon: number;
    };

/** What a response without a stop token gets. */
export type MissingEos =
  | { readonly type: 'none' }
  /** This score in place of the reward's. */
  | { readonly type: 'replace'; readonly score: number }
  /** The reward's score less this. */
  | { readonly type: 'subtract'; readonly penalty: number };

export interface GuardOptions {
  /** Mean KL to the reference, nats a sequence (k1), above which the run stops; null: none. */
  readonly maxKl: number | null;
  /** Shares of the first iteration's mean entropy and mean response length below which the run stops, in [0, 1). */
  readonly minEntropyShare: number;
  readonly minLengthShare: number;
}

export interface PpoHyperparameters {
  /** Rounds of rollout and update, at least 1. */
  readonly iterations: number;
  /** Episodes an iteration. */
  readonly batchSize: number;
  /** Optimizer steps a pass over the batch; at most batchSize. */
  readonly minibatches: number;
  /** Passes over the batch, shuffled anew in each. */
  readonly epochs: number;
  /** Rows that a training graph runs at once: memory, not result. */
  readonly microBatchRows: number;
  /** Sequences that decode at once: memory, not result. */
  readonly rolloutRows: number;
  /** Tokens of a response at most. */
  readonly responseTokens: number;
  /** Whether a response ends at its stop token, or always has responseTokens tokens (lm-human-preferences). */
  readonly responseEnd: 'stop_token' | 'full_length';
  /** Over 0; divides the logits wherever a log-probability is taken. */
  readonly temperature: number;
  readonly learningRate: number;
  /** Of the policy's and the value function's rates, by iteration. */
  readonly schedule: ScheduleOptions;
  readonly optimizer: AdamWOptions;
  readonly critic: CriticOptions;
  /** Ratio clip range, in (0, 1). */
  readonly clip: number;
  /** Value clip range, over 0. */
  readonly valueClip: number;
  /** Discount and GAE's lambda, in [0, 1]. */
  readonly gamma: number;
  readonly lambda: number;
  readonly kl: KlOptions;
  /** Divides rewards by their standard deviation, mean kept (lm-human-preferences), or leaves them. */
  readonly rewardWhitening: 'none' | 'keep_mean';
  /** What advantages are whitened over. */
  readonly advantageWhitening: 'batch' | 'minibatch';
  readonly variance: VarianceForm;
  readonly missingEos: MissingEos;
  /** The response's last token, or the state after its EOS where that fits the response's length (N+ and TRL). */
  readonly scoreAt: 'last_token' | 'after_eos';
  /** PPO-ptx: coefficient of the mean log-likelihood a pretraining token, and pretraining rows an episode. */
  readonly pretraining: { readonly coefficient: number; readonly rowsPerEpisode: number };
  /** Decay of the weights' moving average an optimizer step, which is then the result; null: the last weights are. */
  readonly averageDecay: number | null;
  readonly guards: GuardOptions;
}

const guards: GuardOptions = { maxKl: 200, minEntropyShare: 0.02, minLengthShare: 0.1 };
const noPretraining = { coefficient: 0, rowsPerEpisode: 0 };

const adam = (epsilon: number): AdamWOptions => ({
  beta1: 0.9,
  beta2: 0.999,
  epsilon,
  epsilonForm: 'torch',
  weightDecay: 0,
  clipNorm: null,
});

/**
 * Ouyang et al. 2022, appendix C.4: 512 episodes in 8 minibatches, one epoch, KL 0.02, clip 0.2, ptx 27.8 with 8 pretraining rows an
 * episode, EMA 0.992, constant rate after 10 iterations from a tenth, value rate 9e-6, Adam (0.9, 0.95). Not in the paper and chosen here:
 * the policy's rate (8.05e-6, the highest that the paper reports as stable without ptx), lambda 0.95, value clip 0.2, gradient norm 1, and
 * that 27.8 stands before a mean over tokens.
 */
const instructgpt: PpoHyperparameters = {
  iterations: 500,
  batchSize: 512,
  minibatches: 8,
  epochs: 1,
  microBatchRows: 16,
  rolloutRows: 64,
  responseTokens: 128,
  responseEnd: 'stop_token',
  temperature: 1,
  learningRate: 8.05e-6,
  schedule: { type: 'constant', warmUpSteps: 10 },
  optimizer: { ...adam(1e-8), beta2: 0.95, clipNorm: 1 },
  critic: { type: 'separate', learningRate: 9e-6 },
  clip: 0.2,
  valueClip: 0.2,
  gamma: 1,
  lambda: 0.95,
  kl: { type: 'fixed', coefficient: 0.02 },
  rewardWhitening: 'none',
  advantageWhitening: 'batch',
  variance: 'population',
  missingEos: { type: 'none' },
  scoreAt: 'last_token',
  pretraining: { coefficient: 27.8, rowsPerEpisode: 8 },
  averageDecay: 0.992,
  guards,
};

/** Stiennon et al. 2020 as reproduced by Huang et al. 2024 ("The N+ implementation details of RLHF with PPO"). */
const summarize: PpoHyperparameters = {
  ...instructgpt,
  iterations: 1953,
  minibatches: 1,
  epochs: 4,
  responseTokens: 53,
  temperature: 0.7,
  learningRate: 3e-6,
  schedule: { type: 'linear', warmUpSteps: 0, finalFraction: 0 },
  optimizer: adam(1e-5),
  critic: { type: 'joint', coefficient: 0.1 },
  kl: { type: 'fixed', coefficient: 0.05 },
  missingEos: { type: 'replace', score: -1 },
  scoreAt: 'after_eos',
  pretraining: noPretraining,
  averageDecay: null,
};

/** Ziegler et al. 2019 and its code (lm-human-preferences): fixed length of 24 tokens, TensorFlow's Adam. */
const lmhp: PpoHyperparameters = {
  ...instructgpt,
  iterations: 1953,
  minibatches: 1,
  epochs: 4,
  responseTokens: 24,
  responseEnd: 'full_length',
  temperature: 0.7,
  learningRate: 1e-5,
  schedule: { type: 'linear', warmUpSteps: 0, finalFraction: 0 },
  optimizer: { ...adam(1e-5), epsilonForm: 'tensorflow' },
  critic: { type: 'shared_trunk', coefficient: 0.1 },
  kl: { type: 'adaptive', coefficient: 0.15, target: 6, horizon: 10_000 },
  rewardWhitening: 'keep_mean',
  advantageWhitening: 'minibatch',
  pretraining: noPretraining,
  averageDecay: null,
};

export const ppoPresets = { instructgpt, summarize, lmhp } as const satisfies Record<
  string,
  PpoHyperparameters
>;
export type PpoPreset = keyof typeof ppoPresets;
export const defaultPpoPreset: PpoPreset = 'instructgpt';
