/** The graphs of a PPO iteration. Rows are whole sequences; only the states before response tokens go through a head. */
import { GraphBuilder } from '../../models/graph/builder.js';
import * as op from '../../models/graph/ops.js';
import type { ModelConfig } from '../../models/transformer/model-config.js';
import { decodePicked, decoderAxes } from '../differentiable-decoder.js';
import type { ForwardGraph } from '../forward.js';
import { languageHead, type Picked, scalarHead, targetLogprobs } from '../loss-heads.js';
import { negativeLogLikelihood, policyLoss, valueLoss } from '../losses.js';
import type { LossGraph } from '../step.js';

/** Hidden states at `picked` of `tokens`. */
function trunk(name: string, config: ModelConfig, maxTime: number) {
  const g = new GraphBuilder(name, decoderAxes(config));
  const tokens = g.input('tokens', 'int64', ['rows', 'time']);
  const hidden = decodePicked(g, config, tokens, g.input('picked', 'int64', ['picked']), { maxTime });
  return { g, hidden };
}
type Trunk = ReturnType<typeof trunk>;

const numbers = (g: GraphBuilder, name: string): Picked => g.input(name, 'float32', ['picked']);

const logprobsOf = ({ g, hidden }: Trunk, config: ModelConfig, temperature: number): Picked =>
  targetLogprobs(languageHead(g, config, hidden, temperature), g.input('targets', 'int64', ['picked']));

export interface PassOptions {
  /** Longest row. */
  readonly maxTime: number;
}

export interface PolicyPassOptions extends PassOptions {
  /** Logits are divided by it in every log-probability, as the sampler does. */
  readonly temperature: number;
}

/** Reads `logprobs` of `targets`. */
export function logprobGraph(config: ModelConfig, { maxTime, temperature }: PolicyPassOptions): ForwardGraph {
  const base = trunk('logprobs', config, maxTime);
  return { builder: base.g, readings: { logprobs: logprobsOf(base, config, temperature) } };
}

/** Reads `scores`, a scalar head's outputs. */
export function scalarGraph(
  config: ModelConfig,
  head: 'score' | 'value',
  { maxTime }: PassOptions,
): ForwardGraph {
  const { g, hidden } = trunk(head, config, maxTime);
  return { builder: g, readings: { scores: scalarHead(g, hidden, head) } };
}

function policyPart(
  base: Trunk,
  config: ModelConfig,
  { temperature }: PolicyPassOptions,
  clip: number,
  weights: Picked,
) {
  const { g } = base;
  const logprobs = logprobsOf(base, config, temperature);
  const loss = policyLoss({
    logprobs,
    oldLogprobs: numbers(g, 'old_logprobs'),
    advantages: numbers(g, 'advantages'),
    weights,
    clip,
  });
  return { loss, logprobs };
}

function valuePart({ g, hidden }: Trunk, clip: number, weights: Picked) {
  const values = scalarHead(g, hidden, 'value');
  const loss = valueLoss({
    values,
    oldValues: numbers(g, 'old_values'),
    returns: numbers(g, 'returns'),
    weights,
    clip,
  });
  return { loss, values };
}

/** The clipped surrogate; reads `logprobs`. */
export function policyGraph(config: ModelConfig, options: PolicyPassOptions, clip: number): LossGraph {
  const base = trunk('policy', config, options.maxTime);
  const { loss, logprobs } = policyPart(base, config, options, clip, numbers(base.g, 'weights'));
  return { builder: base.g, loss, readings: { logprobs } };
}

/** The clipped value loss times its coefficient; reads `value_loss` without it. */
export function valueGraph(
  config: ModelConfig,
  { maxTime }: PassOptions,
  { clip, coefficient }: { readonly clip: number; readonly coefficient: number },
): LossGraph {
  const base = trunk('value', config, maxTime);
  const { loss } = valuePart(base, clip, numbers(base.g, 'weights'));
  return { builder: base.g, loss: op.mul(loss, coefficient), readings: { value_loss: loss } };
}

/** Policy and value function on one trunk: one loss, one backward walk. */
export function sharedTrunkGraph(
  config: ModelConfig,
  options: PolicyPassOptions,
  clips: { readonly policy: number; readonly value: number; readonly coefficient: number },
): LossGraph {
  const base = trunk('policy_and_value', config, options.maxTime);
  const weights = numbers(base.g, 'weights');
  const policy = policyPart(base, config, options, clips.policy, weights);
  const value = valuePart(base, clips.value, weights);
  return {
    builder: base.g,
    loss: op.add(policy.loss, op.mul(value.loss, clips.coefficient)),
    readings: { logprobs: policy.logprobs, policy_loss: policy.loss, value_loss: value.loss },
  };
}

/** -sum weight log p(target) of pretraining text: PPO-ptx's second term. Temperature 1, as in pretraining. */
export function pretrainingGraph(config: ModelConfig, { maxTime }: PassOptions): LossGraph {
  const base = trunk('pretraining', config, maxTime);
  const logprobs = logprobsOf(base, config, 1);
  return {
    builder: base.g,
    loss: negativeLogLikelihood(logprobs, numbers(base.g, 'weights')),
    readings: {},
  };
}
