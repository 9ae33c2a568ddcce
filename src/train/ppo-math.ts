/**
 * The arithmetic of PPO for language models outside the graph, on host arrays. One episode is one response; arrays are per response
 * token, and a mask (1 counts, 0 does not) leaves out padding. Everything is pure.
 * Sources: Ziegler et al. 2019 (per-token KL, adaptive controller), Schulman et al. 2016 (GAE), Schulman 2020 "Approximating KL
 * divergence" (k1, k2, k3), Ouyang et al. 2022 section 3.5.
 */

export interface TokenRewardOptions {
  /** KL coefficient (beta). */
  readonly klCoefficient: number;
  /** Index of the token that receives the score. */
  readonly scoreAt: number;
}

/**
 * R_t = -beta (log pi(a_t) - log pi_ref(a_t)) + [t = scoreAt] score.
 * @param logprobs  of the policy that sampled, at sampling time; nats
 */
export function tokenRewards(
  logprobs: Float32Array,
  referenceLogprobs: Float32Array,
  score: number,
  { klCoefficient, scoreAt }: TokenRewardOptions,
): Float32Array {
  const rewards = logprobs.map((logprob, t) => -klCoefficient * (logprob - referenceLogprobs[t]!));
  rewards[scoreAt]! += score;
  return rewards;
}

export interface AdvantageOptions {
  readonly gamma: number;
  readonly lambda: number;
}

export interface Advantages {
  readonly advantages: Float32Array;
  /** advantages + values, before any whitening: the value function's target. */
  readonly returns: Float32Array;
}

/**
 * Generalised advantage estimation: delta_t = R_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma lambda A_{t+1}, V after the end = 0.
 * Masked tokens are stepped over, so that what stands there cannot leak into the result; they get 0.
 * @param values V_t of the state before token t
 */
export function generalizedAdvantages(
  rewards: Float32Array,
  values: Float32Array,
  mask: Uint8Array,
  { gamma, lambda }: AdvantageOptions,
): Advantages {
  const advantages = new Float32Array(rewards.length);
  const returns = new Float32Array(rewards.length);
  let nextAdvantage = 0;
  let nextValue = 0;
  for (let t = rewards.length - 1; t >= 0; t--) {
    if (mask[t] === 0) continue;
    const delta = rewards[t]! + gamma * nextValue - values[t]!;
    nextAdvantage = delta + gamma * lambda * nextAdvantage;
    nextValue = values[t]!;
    advantages[t] = nextAdvantage;
    returns[t] = nextAdvantage + nextValue;
  }
  return { advantages, returns };
}

export interface Moments {
  readonly count: number;
  readonly mean: number;
  readonly variance: number;
}

/** `population` divides by n (TF moments; lm-human-preferences), `sample` by n - 1 (Bessel; TRL, verl). */
export type VarianceForm = 'population' | 'sample';

/** Moments over all counted entries of several episodes. */
export function maskedMoments(
  episodes: readonly Float32Array[],
  masks: readonly Uint8Array[],
  form: VarianceForm,
): Moments {
  let count = 0;
  let sum = 0;
  forEachCounted(episodes, masks, (value) => {
    count++;
    sum += value;
  });
  const mean = count === 0 ? 0 : sum / count;
  let squares = 0;
  forEachCounted(episodes, masks, (value) => {
    squares += (value - mean) ** 2;
  });
  const divisor = form === 'population' ? count : count - 1;
  return { count, mean, variance: divisor > 0 ? squares / divisor : 0 };
}

export interface WhitenOptions {
  readonly variance: VarianceForm;
  /** `shift` centres at 0; `keep` puts the mean back. */
  readonly mean: 'shift' | 'keep';
}

/** (x - mean) / sqrt(variance + 1e-8) over all counted entries of the batch; others become 0. */
export function whiten(
  episodes: readonly Float32Array[],
  masks: readonly Uint8Array[],
  options: WhitenOptions,
): Float32Array[] {
  const { mean, variance } = maskedMoments(episodes, masks, options.variance);
  const scale = 1 / Math.sqrt(variance + 1e-8);
  const offset = options.mean === 'keep' ? mean : 0;
  return episodes.map((episode, i) =>
    episode.map((value, t) => (masks[i]![t] === 0 ? 0 : (value - mean) * scale + offset)),
  );
}

export interface KlEstimates {
  /** Unbiased, can be negative. */
  readonly k1: number;
  /** Half the squared log-ratio: biased, low variance. */
  readonly k2: number;
  /** e^-d - 1 + d: unbiased and never negative. */
  readonly k3: number;
}

/** Estimates of KL(pi || pi_ref) from one sample's d = log pi - log pi_ref, nats. */
export const klEstimates = (d: number): KlEstimates => ({ k1: d, k2: 0.5 * d * d, k3: Math.expm1(-d) + d });

/** The KL coefficient through training. `update` is called once an iteration, after the policy's update. */
export interface KlController {
  readonly coefficient: number;
  update(sequenceKl: number, episodes: number): KlController;
}

export const fixedKl = (coefficient: number): KlController => ({
  coefficient,
  update: () => fixedKl(coefficient),
});

export interface AdaptiveKlOptions {
  readonly coefficient: number;
  /** Nats a sequence, not a token. */
  readonly target: number;
  /** Episodes in which the coefficient can change by a factor of about e^0.2. */
  readonly horizon: number;
}

/** beta <- beta (1 + clip(KL / target - 1, -0.2, 0.2) episodes / horizon); Ziegler et al. 2019, section 2.2. */
export const adaptiveKl = (options: AdaptiveKlOptions): KlController => ({
  coefficient: options.coefficient,
  update: (sequenceKl, episodes) => {
    const error = Math.min(0.2, Math.max(-0.2, sequenceKl / options.target - 1));
    return adaptiveKl({
      ...options,
      coefficient: options.coefficient * (1 + (error * episodes) / options.horizon),
    });
  },
});

/** KL of best-of-n to the policy that is sampled, nats: ln n - (n - 1)/n (Stiennon et al. 2020, appendix G.3). */
export const klOfBestOf = (n: number): number => Math.log(n) - (n - 1) / n;

/** Share of the returns' variance that the values explain; 1 is perfect, 0 is a constant, below 0 is worse than that. */
export function explainedVariance(
  values: readonly Float32Array[],
  returns: readonly Float32Array[],
  masks: readonly Uint8Array[],
): number {
  const errors = returns.map((row, i) => row.map((target, t) => target - values[i]![t]!));
  const total = maskedMoments(returns, masks, 'population').variance;
  return total === 0 ? 0 : 1 - maskedMoments(errors, masks, 'population').variance / total;
}

function forEachCounted(
  episodes: readonly Float32Array[],
  masks: readonly Uint8Array[],
  visit: (value: number) => void,
): void {
  episodes.forEach((episode, i) => {
    episode.forEach((value, t) => {
      if (masks[i]![t] !== 0) visit(value);
    });
  });
}
