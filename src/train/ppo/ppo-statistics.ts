/** The numbers that an iteration reports. Names are the event's metrics. */
import type { Metrics } from '../events.js';
import { explainedVariance, klEstimates } from '../ppo-math.js';
import type { Experience, MinibatchReport } from './actor-critic.js';
import { moments, type ScoredEpisode } from './experience.js';

/** What the rollout and its scores say of the policy before the update; also what guards look at. */
export interface RolloutStatistics {
  /** Mean over episodes of the sum over tokens, nats: what the controller and the KL ceiling see. */
  readonly klK1: number;
  readonly klK2: number;
  readonly klK3: number;
  /** Mean a token, nats. */
  readonly entropy: number;
  readonly rewardMean: number;
  readonly rewardDeviation: number;
  /** Mean response tokens, and share of responses that reached a stop token. */
  readonly responseLength: number;
  readonly endedShare: number;
}

export function rolloutStatistics(scored: readonly ScoredEpisode[]): RolloutStatistics {
  const kl = { k1: 0, k2: 0, k3: 0 };
  let entropy = 0;
  let tokens = 0;
  for (const { episode, referenceLogprobs } of scored) {
    episode.logprobs.forEach((logprob, t) => {
      const { k1, k2, k3 } = klEstimates(logprob - referenceLogprobs[t]!);
      kl.k1 += k1;
      kl.k2 += k2;
      kl.k3 += k3;
    });
    entropy += episode.entropy * episode.response.length;
    tokens += episode.response.length;
  }
  const reward = moments(scored.map(({ score }) => score));
  const episodes = scored.length;
  return {
    klK1: kl.k1 / episodes,
    klK2: kl.k2 / episodes,
    klK3: kl.k3 / episodes,
    entropy: entropy / tokens,
    rewardMean: reward.mean,
    rewardDeviation: reward.deviation,
    responseLength: tokens / episodes,
    endedShare: scored.filter(({ episode }) => episode.isEnded).length / episodes,
  };
}

/** Sums over the minibatches of an iteration, and the first one apart: there the trainer's weights are still the sampler's. */
export class UpdateStatistics {
  readonly #clip: number;
  #tokens = 0;
  #clipped = 0;
  #squares = 0;
  #ratios = 0;
  #ratioMax = 0;
  #steps = 0;
  #policyLoss = 0;
  #valueLoss = 0;
  #pretrainingLoss = 0;
  #first: Metrics | null = null;
  policyGradientNorm = 0;
  valueGradientNorm = 0;

  constructor(clip: number) {
    this.#clip = clip;
  }

  add(minibatch: readonly Experience[], report: MinibatchReport): void {
    const before = { tokens: this.#tokens, clipped: this.#clipped, squares: this.#squares };
    let gap = 0;
    for (const [row, { episode, advantages }] of minibatch.entries()) {
      report.logprobs[row]!.forEach((logprob, t) => {
        const d = logprob - episode.logprobs[t]!;
        gap = Math.max(gap, Math.abs(d));
        this.#addToken(d, advantages[t]!);
      });
    }
    this.#first ??= {
      samplerGap: gap,
      firstApproximateKl: (0.5 * (this.#squares - before.squares)) / (this.#tokens - before.tokens),
      firstClipFraction: (this.#clipped - before.clipped) / (this.#tokens - before.tokens),
    };
    this.#steps++;
    this.#policyLoss += report.policyLoss;
    this.#valueLoss += report.valueLoss;
    this.#pretrainingLoss += report.pretrainingLoss ?? 0;
    this.policyGradientNorm = Math.max(this.policyGradientNorm, report.policy.gradientNorm);
    this.valueGradientNorm = Math.max(this.valueGradientNorm, report.value?.gradientNorm ?? 0);
  }

  /** The clip binds where the clipped surrogate is the larger loss. */
  #addToken(d: number, advantage: number): void {
    const ratio = Math.exp(d);
    const clipped = Math.min(1 + this.#clip, Math.max(1 - this.#clip, ratio));
    this.#tokens++;
    this.#squares += d * d;
    this.#ratios += ratio;
    this.#ratioMax = Math.max(this.#ratioMax, ratio);
    if (-advantage * clipped > -advantage * ratio) this.#clipped++;
  }

  get policyLoss(): number {
    return this.#policyLoss / this.#steps;
  }

  get metrics(): Metrics {
    return {
      ...this.#first,
      // Schulman's k2 of the step itself, over response tokens and not over padding.
      approximateKl: (0.5 * this.#squares) / this.#tokens,
      clipFraction: this.#clipped / this.#tokens,
      ratioMean: this.#ratios / this.#tokens,
      ratioMax: this.#ratioMax,
      policyLoss: this.policyLoss,
      valueLoss: this.#valueLoss / this.#steps,
      pretrainingLoss: this.#pretrainingLoss / this.#steps,
      valueGradientNorm: this.valueGradientNorm,
    };
  }
}

/** Of the returns, by the values before the update. */
export const explainedReturns = (experiences: readonly Experience[]): number =>
  explainedVariance(
    experiences.map(({ values }) => values),
    experiences.map(({ returns }) => returns),
    experiences.map(({ values }) => new Uint8Array(values.length).fill(1)),
  );
