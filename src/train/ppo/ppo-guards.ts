import type { GuardOptions } from './ppo-presets.js';
import type { RolloutStatistics } from './ppo-statistics.js';

/** What the first iteration's rollout was like: the policy before any update. */
export type Baseline = Pick<RolloutStatistics, 'entropy' | 'responseLength'>;

/** Why a run must not go on from this rollout, in one sentence with both numbers; null where it may. */
export function guardViolation(
  statistics: RolloutStatistics,
  baseline: Baseline,
  { maxKl, minEntropyShare, minLengthShare }: GuardOptions,
): string | null {
  const { klK1, entropy, responseLength } = statistics;
  const broken = Object.entries(statistics).find(([, value]) => !Number.isFinite(value));
  if (broken !== undefined) return `${broken[0]} is ${broken[1]}.`;
  if (maxKl !== null && klK1 > maxKl)
    return `KL to the reference is ${klK1.toFixed(2)} nats a sequence, over the ceiling of ${maxKl}; raise the KL coefficient or lower the learning rate.`;
  const least = minEntropyShare * baseline.entropy;
  if (entropy < least)
    return `Entropy has collapsed to ${entropy.toFixed(4)} nats a token, under ${minEntropyShare} of the first iteration's ${baseline.entropy.toFixed(4)}.`;
  const shortest = minLengthShare * baseline.responseLength;
  if (responseLength < shortest)
    return `Responses have collapsed to ${responseLength.toFixed(1)} tokens, under ${minLengthShare} of the first iteration's ${baseline.responseLength.toFixed(1)}.`;
  return null;
}
