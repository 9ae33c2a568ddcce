import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { Rng } from '../../core/rng.js';
import type { TokenId } from '../../core/units.js';
import type { Runtime } from '../../models/runtime/session.js';
import { readModelConfig } from '../../models/transformer/load-decoder.js';
import { createSchedule } from '../optim/schedule.js';
import { adaptiveKl, fixedKl, type KlController } from '../ppo-math.js';
import { StateStore } from '../train-state.js';
import type { ActorCritic, LearningRates } from './actor-critic.js';
import { experiencesOf, ruledScore, type ScoredEpisode, stateCount, whitenMinibatch } from './experience.js';
import { OwnedParts } from './owned-parts.js';
import { type Baseline, guardViolation } from './ppo-guards.js';
import { checkJob, longestSequence, type PpoJob } from './ppo-job.js';
import { openActorCritic, passContext } from './ppo-models.js';
import type { KlOptions } from './ppo-presets.js';
import {
  explainedReturns,
  type RolloutStatistics,
  rolloutStatistics,
  UpdateStatistics,
} from './ppo-statistics.js';
import { ReferencePolicy } from './reference-policy.js';
import type { RewardSample } from './reward-source.js';
import { type Episode, rollOut } from './rollout.js';
import { RolloutDecoder } from './rollout-decoder.js';
import { readRollout, rolloutBuffers, type SavedRollout } from './rollout-state.js';
import { SeededOrder, shuffledIndices } from './seeded-order.js';

/**
 * Streams of the run's seed. Episodes draw from stream 0 on, one each; the others lie beyond any number of them, 2^32 apart.
 */
const STREAM = { prompts: 2 ** 48, minibatches: 2 ** 48 + 2 ** 32, pretraining: 2 ** 48 + 2 ** 33 } as const;

/** A rollout with everything that is known of it before the update. */
export interface Assessed {
  readonly scored: readonly ScoredEpisode[];
  readonly statistics: RolloutStatistics;
}

/**
 * A PPO run between two events: networks, counters, the rollout under way. Everything random follows from seed and counters, so what a
 * checkpoint holds beside the networks is the iteration, the controller, and the rollout.
 */
export class PpoRun implements Disposable {
  readonly job: PpoJob;
  readonly actorCritic: ActorCritic;
  /** Iterations done. */
  iteration = 0;
  controller: KlController;
  readonly #reference: ReferencePolicy;
  readonly #decoder: RolloutDecoder;
  readonly #prompts: SeededOrder;
  readonly #documents: SeededOrder;
  readonly #store: StateStore | null;
  readonly #identity: string;
  readonly #owned: OwnedParts;
  #baseline: Baseline | null = null;
  #rollout: SavedRollout = { episodes: [], scores: null };
  /** What the newest checkpoint holds: iteration and progress of its rollout. */
  #saved = '';

  /** @throws AppError of `checkJob` and of loading a checkpoint */
  constructor(runtime: Runtime, job: PpoJob) {
    const config = readModelConfig(job.place.model);
    checkJob(job, config);
    using opened = new OwnedParts();
    this.job = job;
    this.controller = controllerOf(job.options.kl, job.options.kl.coefficient);
    this.actorCritic = opened.own(openActorCritic(runtime, job, config));
    this.#reference = opened.own(new ReferencePolicy(runtime, job.place.model, config, passContext(job)));
    this.#decoder = opened.own(
      new RolloutDecoder(runtime, config, this.actorCritic.policy.parameters, {
        rows: Math.min(job.options.rolloutRows, job.options.batchSize),
        length: longestSequence(job),
      }),
    );
    const { seed } = job.options;
    this.#prompts = new SeededOrder(job.prompts.length, seed, STREAM.prompts);
    this.#documents = new SeededOrder(job.pretraining.length, seed, STREAM.pretraining);
    const { checkpoints } = job.place;
    this.#store = checkpoints && new StateStore(checkpoints.directory, Math.max(2, checkpoints.keep));
    this.#identity = identityOf(job, config);
    this.#owned = opened.move();
  }

  /** Goes on from the newest checkpoint, where there is one. @throws AppError `run_mismatch`, `checkpoint_invalid` */
  resume(): void {
    using saved = this.#store?.openLatest(this.#identity) ?? null;
    if (saved === null) return;
    for (const [name, model] of Object.entries(this.actorCritic.models)) saved.restore(name, model);
    const { coefficient, baseline } = saved.values as unknown as SavedValues;
    this.iteration = saved.step;
    this.controller = controllerOf(this.job.options.kl, coefficient);
    this.#baseline = baseline;
    this.#rollout = readRollout(saved);
    this.#saved = this.#progress;
  }

  /** Whether every prompt of the batch has its response. */
  get isRolledOut(): boolean {
    return this.#rollout.episodes.length === this.job.options.batchSize;
  }

  /** Draws the next rows of the rollout; gives false where the policy's logits are no distribution. */
  rollOutRows(): boolean {
    const { batchSize, responseTokens, responseEnd, temperature, seed } = this.job.options;
    const done = this.#rollout.episodes.length;
    const rows = Math.min(this.#decoder.rows, batchSize - done);
    const first = this.iteration * batchSize + done;
    const prompts = this.#prompts.take(first, rows).map((index) => this.job.prompts[index]!);
    const episodes = rollOut(this.#decoder, prompts, first, {
      maxTokens: responseTokens,
      temperature,
      stopIds: responseEnd === 'stop_token' ? this.job.stopIds : new Set(),
      seed,
    });
    if (episodes === null) return false;
    this.#rollout = { episodes: [...this.#rollout.episodes, ...episodes], scores: null };
    return true;
  }

  /** Asks the reward. @throws what the reward throws */
  async score(signal: AbortSignal): Promise<void> {
    const { episodes } = this.#rollout;
    if (this.#rollout.scores !== null) return;
    const scores = await this.job.reward.score(
      episodes.map((episode) => sampleOf(episode, this.job)),
      signal,
    );
    this.#rollout = { episodes, scores };
  }

  /** Reference log-probabilities, values and statistics of the scored rollout. */
  assess(): Assessed {
    const { options } = this.job;
    const { episodes, scores } = this.#rollout;
    const references = this.#reference.logprobs(episodes);
    const values = this.actorCritic.values(
      episodes,
      episodes.map((episode) => stateCount(episode, options)),
    );
    const scored = episodes.map((episode, at) => ({
      episode,
      score: ruledScore(scores![at]!, episode, options.missingEos),
      referenceLogprobs: references[at]!,
      values: values[at]!,
    }));
    const statistics = rolloutStatistics(scored);
    this.#baseline ??= { entropy: statistics.entropy, responseLength: statistics.responseLength };
    return { scored, statistics };
  }

  violation({ statistics }: Assessed): string | null {
    return guardViolation(statistics, this.#baseline!, this.job.options.guards);
  }

  /** Rates of this iteration. */
  get rates(): LearningRates {
    const { learningRate, schedule, critic, iterations } = this.job.options;
    const factor = createSchedule(schedule).factor(this.iteration, iterations);
    const value = critic.type === 'separate' ? critic.learningRate : learningRate;
    return { policy: factor * learningRate, value: factor * value };
  }

  /** All epochs of minibatches over the assessed rollout. Stops at a step whose numbers are not finite: that step changes nothing. */
  update({ scored, statistics }: Assessed): UpdateOutcome {
    const { options } = this.job;
    const experiences = experiencesOf(scored, this.controller.coefficient, options);
    const update = new UpdateStatistics(options.clip);
    for (let epoch = 0; epoch < options.epochs; epoch++) {
      for (const [at, chosen] of this.#minibatches(epoch).entries()) {
        const minibatch = whitenMinibatch(
          chosen.map((index) => experiences[index]!),
          options,
        );
        const documents = this.#documentsOf(epoch * options.minibatches + at, minibatch.length);
        const report = this.actorCritic.learn(minibatch, documents, this.rates);
        update.add(minibatch, report);
        const figures = [report.policyLoss, report.valueLoss, report.policy.gradientNorm];
        if (![...figures, report.value?.gradientNorm ?? 0].every(Number.isFinite))
          return { update, isFinite: false, explained: explainedReturns(experiences) };
      }
    }
    this.controller = this.controller.update(statistics.klK1, scored.length);
    this.iteration++;
    this.#rollout = { episodes: [], scores: null };
    return { update, isFinite: true, explained: explainedReturns(experiences) };
  }

  /** Indices of the batch, shuffled anew in each epoch; a batch in one piece needs no order. */
  #minibatches(epoch: number): number[][] {
    const { batchSize, minibatches, epochs, seed } = this.job.options;
    const stream = STREAM.minibatches + this.iteration * epochs + epoch;
    const order = shuffledIndices(batchSize, new Rng(seed, stream));
    return Array.from({ length: minibatches }, (_, at) =>
      order.slice(
        Math.floor((at * batchSize) / minibatches),
        Math.floor(((at + 1) * batchSize) / minibatches),
      ),
    );
  }

  #documentsOf(step: number, episodes: number): (readonly TokenId[])[] {
    const { pretraining, minibatches, epochs } = this.job.options;
    if (pretraining.coefficient === 0) return [];
    const rows = Math.max(1, Math.round(pretraining.rowsPerEpisode * episodes));
    const cursor = (this.iteration * minibatches * epochs + step) * rows;
    return this.#documents.take(cursor, rows).map((index) => this.job.pretraining[index]!);
  }

  /** Writes the networks and the rollout. Nothing where the last checkpoint holds the same, or where none are kept. */
  save(): string | null {
    if (this.#store === null || this.#saved === this.#progress) return null;
    const values: SavedValues = { coefficient: this.controller.coefficient, baseline: this.#baseline };
    const path = this.#store.save({
      step: this.iteration,
      run: this.#identity,
      models: this.actorCritic.models,
      values: values as never,
      buffers: rolloutBuffers(this.#rollout),
    });
    this.#saved = this.#progress;
    return path;
  }

  get #progress(): string {
    const { episodes, scores } = this.#rollout;
    return `${this.iteration} ${episodes.length} ${scores !== null}`;
  }

  get isCheckpointDue(): boolean {
    const every = this.job.place.checkpoints?.everySteps;
    return every !== undefined && this.iteration % every === 0;
  }

  get latestCheckpoint(): string | null {
    return this.#store?.latestPath ?? null;
  }

  /** Removes a checkpoint of the weights as they are, which have failed: an abort before the guards saw them can have left one. */
  discardCheckpoint(): void {
    if (this.#store?.steps.at(-1) === this.iteration) rmSync(this.#store.latestPath!);
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }
}

export interface UpdateOutcome {
  readonly update: UpdateStatistics;
  readonly isFinite: boolean;
  readonly explained: number;
}

interface SavedValues {
  readonly coefficient: number;
  readonly baseline: Baseline | null;
}

const controllerOf = (options: KlOptions, coefficient: number): KlController =>
  options.type === 'fixed' ? fixedKl(coefficient) : adaptiveKl({ ...options, coefficient });

function sampleOf({ prompt, response: whole, isEnded }: Episode, { decode }: PpoJob): RewardSample {
  const response = isEnded ? whole.slice(0, -1) : whole;
  return {
    prompt,
    response,
    isEnded,
    get promptText() {
      return decode(prompt);
    },
    get responseText() {
      return decode(response);
    },
  };
}

/** A hash of whatever decides the run. */
function identityOf(
  { options, value, rewardId, prompts, pretraining, stopIds, place }: PpoJob,
  config: object,
) {
  const data = [prompts, pretraining].map((rows) => rows.map((ids) => ids.join()).join('\n'));
  const decisive = {
    method: 'ppo',
    options,
    value,
    rewardId,
    config,
    model: place.model,
    stopIds: [...stopIds],
    data,
  };
  return createHash('sha256').update(JSON.stringify(decisive)).digest('hex');
}
