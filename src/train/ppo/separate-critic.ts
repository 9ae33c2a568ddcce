import type { TokenId } from '../../core/units.js';
import type { Runtime } from '../../models/runtime/session.js';
import type { Trainable } from '../trainable.js';
import type { ActorCritic, Experience, LearningRates, MinibatchReport } from './actor-critic.js';
import { type PassContext, PolicyNetwork, PretrainingTerm } from './policy-network.js';
import type { Episode } from './rollout.js';
import { ValueNetwork, ValueReader } from './value-network.js';

export interface CriticContext extends PassContext {
  readonly clip: number;
  readonly valueClip: number;
  /** Of the value loss beside the policy's. */
  readonly valueCoefficient: number;
  /** null: no PPO-ptx. */
  readonly pretraining: { readonly coefficient: number; readonly maxTime: number } | null;
}

/**
 * Policy and value function as two networks with an Adam each. With equal rates that is one optimizer over both, since Adam treats each
 * element alone (but for a clipped global norm, which the presets that share a step do not have).
 */
export class SeparateCritic implements ActorCritic {
  readonly policy: Trainable;
  readonly models: Readonly<Record<string, Trainable>>;
  readonly #value: Trainable;
  readonly #policyNetwork: PolicyNetwork;
  readonly #valueNetwork: ValueNetwork;
  readonly #reader: ValueReader;
  readonly #pretraining: PretrainingTerm | null;

  /** Takes both models over. */
  constructor(runtime: Runtime, policy: Trainable, value: Trainable, context: CriticContext) {
    const { clip, valueClip, valueCoefficient, pretraining, microBatchRows } = context;
    this.policy = policy;
    this.#value = value;
    this.models = { policy, value };
    this.#policyNetwork = new PolicyNetwork(runtime, policy, context, clip);
    this.#valueNetwork = new ValueNetwork(runtime, value, context, {
      clip: valueClip,
      coefficient: valueCoefficient,
    });
    this.#reader = new ValueReader(runtime, value, context);
    this.#pretraining =
      pretraining && new PretrainingTerm(runtime, policy, { ...pretraining, microBatchRows });
  }

  values(episodes: readonly Episode[], counts: readonly number[]): Float32Array[] {
    return this.#reader.read(episodes, counts);
  }

  learn(
    minibatch: readonly Experience[],
    documents: readonly (readonly TokenId[])[],
    rates: LearningRates,
  ): MinibatchReport {
    const { loss, logprobs } = this.#policyNetwork.accumulate(minibatch);
    const pretrainingLoss = this.#pretraining?.accumulate(documents) ?? null;
    const policy = this.policy.step(rates.policy);
    const valueLoss = this.#valueNetwork.accumulate(minibatch);
    const value = this.#value.step(rates.value);
    return { policyLoss: loss, valueLoss, pretrainingLoss, logprobs, policy, value };
  }

  [Symbol.dispose](): void {
    const parts = [this.#pretraining, this.#reader, this.#valueNetwork, this.#policyNetwork];
    for (const part of [...parts, this.#value, this.policy]) part?.[Symbol.dispose]();
  }
}
