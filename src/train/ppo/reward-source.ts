import type { TokenId } from '../../core/units.js';

/** A response to score, as ids and as text. */
export interface RewardSample {
  readonly prompt: readonly TokenId[];
  /** Without the stop token. */
  readonly response: readonly TokenId[];
  readonly isEnded: boolean;
  readonly promptText: string;
  readonly responseText: string;
}

/** What judges responses: a reward model, an endpoint over HTTP, a function. Higher is better. */
export interface Reward {
  /** One finite number a sample, in order. @throws AppError `reward_failed`, `request_cancelled` */
  score(samples: readonly RewardSample[], signal: AbortSignal): Promise<readonly number[]>;
}

/** A function as a reward; it may be asynchronous. */
export const functionReward = (judge: (sample: RewardSample) => number | Promise<number>): Reward => ({
  score: (samples) => Promise.all(samples.map(judge)),
});
