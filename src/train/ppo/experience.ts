/** From scored episodes to what an update learns: per-token rewards, advantages, returns. Host arithmetic, pure. */
import { generalizedAdvantages, maskedMoments, tokenRewards, whiten } from '../ppo-math.js';
import type { Experience } from './actor-critic.js';
import type { PpoHyperparameters } from './ppo-presets.js';
import type { Episode } from './rollout.js';

export interface ScoredEpisode {
  readonly episode: Episode;
  /** The reward's, after the rule for a missing EOS. */
  readonly score: number;
  /** Of the response's tokens under the reference policy, nats. */
  readonly referenceLogprobs: Float32Array;
  /** Of the states that `stateCount` counts. */
  readonly values: Float32Array;
}

/** A score under the rule for responses without a stop token. */
export function ruledScore(
  score: number,
  { isEnded }: Episode,
  rule: PpoHyperparameters['missingEos'],
): number {
  if (isEnded || rule.type === 'none') return score;
  return rule.type === 'replace' ? rule.score : score - rule.penalty;
}

/**
 * States of an episode that have a value: one before each response token, and where the score stands after the EOS (N+, TRL) the state
 * behind it, if the response's length has room for it.
 */
export const stateCount = (
  { response, isEnded }: Episode,
  { scoreAt, responseTokens }: Pick<PpoHyperparameters, 'scoreAt' | 'responseTokens'>,
): number =>
  scoreAt === 'after_eos' && isEnded && response.length < responseTokens
    ? response.length + 1
    : response.length;

/** Advantages are whitened over the batch here, or left for `whitenMinibatch`. */
export function experiencesOf(
  scored: readonly ScoredEpisode[],
  klCoefficient: number,
  options: PpoHyperparameters,
): Experience[] {
  const rewards = whitenRewards(
    scored.map((one) => rewardsOf(one, klCoefficient)),
    options,
  );
  const experiences = scored.map(({ episode, values }, at): Experience => {
    const every = new Uint8Array(values.length).fill(1);
    const { advantages, returns } = generalizedAdvantages(rewards[at]!, values, every, options);
    return { episode, advantages: advantages.slice(0, episode.response.length), values, returns };
  });
  return options.advantageWhitening === 'batch' ? withWhiteAdvantages(experiences, options) : experiences;
}

export const whitenMinibatch = (
  minibatch: readonly Experience[],
  options: PpoHyperparameters,
): Experience[] =>
  options.advantageWhitening === 'minibatch' ? withWhiteAdvantages(minibatch, options) : [...minibatch];

/** KL at every response token, the score at the last state. */
function rewardsOf({ episode, score, referenceLogprobs, values }: ScoredEpisode, klCoefficient: number) {
  // The state behind an EOS has no action, so its log-ratio is 0.
  const states = (logprobs: Float32Array): Float32Array => {
    const padded = new Float32Array(values.length);
    padded.set(logprobs);
    return padded;
  };
  return tokenRewards(states(episode.logprobs), states(referenceLogprobs), score, {
    klCoefficient,
    scoreAt: values.length - 1,
  });
}

const everyEntry = (rows: readonly Float32Array[]) =>
  rows.map(({ length }) => new Uint8Array(length).fill(1));

function whitenRewards(
  rewards: readonly Float32Array[],
  { rewardWhitening, variance }: PpoHyperparameters,
): readonly Float32Array[] {
  if (rewardWhitening === 'none') return rewards;
  return whiten(rewards, everyEntry(rewards), { variance, mean: 'keep' });
}

function withWhiteAdvantages(
  experiences: readonly Experience[],
  { variance }: PpoHyperparameters,
): Experience[] {
  const rows = experiences.map(({ advantages }) => advantages);
  const white = whiten(rows, everyEntry(rows), { variance, mean: 'shift' });
  return experiences.map((experience, at) => ({ ...experience, advantages: white[at]! }));
}

/** Mean and standard deviation of plain numbers. */
export function moments(values: readonly number[]): { readonly mean: number; readonly deviation: number } {
  const row = Float32Array.from(values);
  const { mean, variance } = maskedMoments([row], everyEntry([row]), 'population');
  return { mean, deviation: Math.sqrt(variance) };
}
