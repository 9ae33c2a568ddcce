import type { TokenId } from '../../core/units.js';
import type { Runtime } from '../../models/runtime/session.js';
import { LossSession } from '../step.js';
import type { Trainable } from '../trainable.js';
import type { ActorCritic, Experience, LearningRates, MinibatchReport } from './actor-critic.js';
import { meanWeights, PretrainingTerm, policyFeeds, responseSequence, total } from './policy-network.js';
import { sharedTrunkGraph } from './ppo-graphs.js';
import type { Episode } from './rollout.js';
import type { CriticContext } from './separate-critic.js';
import { byRow, inLengthGroups, sequenceBatch } from './sequence-batch.js';
import { ValueReader, valueFeeds } from './value-network.js';

/** A value head on the policy's own trunk: one graph, one gradient, one step (lm-human-preferences). */
export class SharedTrunk implements ActorCritic {
  readonly policy: Trainable;
  readonly models: Readonly<Record<string, Trainable>>;
  readonly #context: CriticContext;
  readonly #loss: LossSession;
  readonly #reader: ValueReader;
  readonly #pretraining: PretrainingTerm | null;

  /**
   * Takes the model over.
   * @param model with a language and a value head
   */
  constructor(runtime: Runtime, model: Trainable, context: CriticContext) {
    const { clip, valueClip, valueCoefficient, pretraining, microBatchRows } = context;
    this.policy = model;
    this.models = { policy: model };
    this.#context = context;
    const graph = sharedTrunkGraph(model.config, context, {
      policy: clip,
      value: valueClip,
      coefficient: valueCoefficient,
    });
    this.#loss = new LossSession(runtime, graph, model.layout);
    this.#reader = new ValueReader(runtime, model, context);
    this.#pretraining =
      pretraining && new PretrainingTerm(runtime, model, { ...pretraining, microBatchRows });
  }

  values(episodes: readonly Episode[], counts: readonly number[]): Float32Array[] {
    return this.#reader.read(episodes, counts);
  }

  learn(
    minibatch: readonly Experience[],
    documents: readonly (readonly TokenId[])[],
    rates: LearningRates,
  ): MinibatchReport {
    const { maxTime, microBatchRows } = this.#context;
    const tokens = total(minibatch.map(({ episode }) => episode.response.length));
    let policyLoss = 0;
    let valueLoss = 0;
    const logprobs = inLengthGroups(minibatch.map(responseSequence), microBatchRows, (group) => {
      const { feeds, picked } = sequenceBatch(group, maxTime);
      const rows = group.map(({ experience }) => experience);
      const weights = meanWeights(picked, tokens);
      const all = { ...feeds, ...policyFeeds(rows), ...valueFeeds(rows), weights };
      const readings = this.policy.accumulate(this.#loss, all, { logprobs: picked });
      policyLoss += readings.policy_loss![0]!;
      valueLoss += readings.value_loss![0]!;
      return byRow(
        readings.logprobs!,
        rows.map(({ episode }) => episode.response.length),
      );
    });
    const pretrainingLoss = this.#pretraining?.accumulate(documents) ?? null;
    const policy = this.policy.step(rates.policy);
    return { policyLoss, valueLoss, pretrainingLoss, logprobs, policy, value: null };
  }

  [Symbol.dispose](): void {
    for (const part of [this.#pretraining, this.#reader, this.#loss, this.policy]) part?.[Symbol.dispose]();
  }
}
