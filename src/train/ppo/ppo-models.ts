/** The networks of a PPO job, loaded. */
import type { Runtime } from '../../models/runtime/session.js';
import { readModelConfig } from '../../models/transformer/load-decoder.js';
import type { ModelConfig } from '../../models/transformer/model-config.js';
import { layoutOf, loadWeights, type Substitute } from '../model-weights.js';
import type { ArenaEntry } from '../optim/parameter-arena.js';
import { Trainable } from '../trainable.js';
import type { ActorCritic } from './actor-critic.js';
import { OwnedParts } from './owned-parts.js';
import type { PassContext } from './policy-network.js';
import { longestSequence, type PpoJob } from './ppo-job.js';
import { loadRewardWeights, meanOf } from './reward-network.js';
import { type CriticContext, SeparateCritic } from './separate-critic.js';
import { SharedTrunk } from './shared-trunk.js';

export const passContext = (job: PpoJob): PassContext => ({
  maxTime: longestSequence(job),
  temperature: job.options.temperature,
  microBatchRows: job.options.microBatchRows,
});

function criticContext(job: PpoJob): CriticContext {
  const { clip, valueClip, critic, pretraining } = job.options;
  return {
    ...passContext(job),
    clip,
    valueClip,
    valueCoefficient: critic.type === 'separate' ? 1 : critic.coefficient,
    pretraining:
      pretraining.coefficient === 0
        ? null
        : {
            coefficient: pretraining.coefficient,
            maxTime: job.pretraining.reduce((longest, { length }) => Math.max(longest, length), 0),
          },
  };
}

/** @throws AppError `checkpoint_invalid` */
export function openActorCritic(runtime: Runtime, job: PpoJob, config: ModelConfig): ActorCritic {
  using opened = new OwnedParts();
  const isShared = job.options.critic.type === 'shared_trunk';
  const policy = opened.own(openPolicy(runtime, job, config, isShared));
  const context = criticContext(job);
  const actorCritic = isShared
    ? new SharedTrunk(runtime, policy, context)
    : new SeparateCritic(runtime, policy, opened.own(openValue(runtime, job, config)), context);
  opened.move();
  return actorCritic;
}

function openPolicy(runtime: Runtime, { place, options }: PpoJob, config: ModelConfig, isShared: boolean) {
  const { optimizer, averageDecay } = options;
  const layout = layoutOf(config, isShared ? ['language', 'value'] : ['language']);
  const policy = new Trainable(runtime, config, layout, { optimizer, averageDecay });
  loadWeights(place.model, policy.parameters, zeroValueHead);
  policy.startAverage();
  return policy;
}

function openValue(runtime: Runtime, { place, options, value: start }: PpoJob, policyConfig: ModelConfig) {
  const { optimizer } = options;
  const config = start.type === 'policy' ? policyConfig : readModelConfig(start.directory);
  const value = new Trainable(runtime, config, layoutOf(config, ['value']), {
    optimizer,
    averageDecay: null,
  });
  if (start.type === 'policy') loadWeights(place.model, value.parameters, zeroValueHead);
  else loadRewardWeights(start.directory, value.parameters, 'value', meanOf(config));
  return value;
}

const zeroValueHead = ({ name, length }: ArenaEntry): Substitute | null =>
  name.startsWith('value.') ? { type: 'fresh', values: new Float32Array(length) } : null;
