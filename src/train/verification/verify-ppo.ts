/** The PPO part of verify-training.ts: rewards, advantages, clipped losses, and the gradient with the pretraining term in one buffer. */
import { GraphBuilder } from '../../models/graph/builder.js';
import * as op from '../../models/graph/ops.js';
import type { Runtime } from '../../models/runtime/session.js';
import { checked, type Verdict } from '../../models/verify/verdict.js';
import { decode, decoderAxes } from '../differentiable-decoder.js';
import { floatFeed, languageLossGraph } from '../language-loss.js';
import { languageHead, pick, scalarHead, targetLogprobs } from '../loss-heads.js';
import { policyLoss, valueLoss } from '../losses.js';
import { layoutOf } from '../model-weights.js';
import { ParameterArena } from '../optim/parameter-arena.js';
import { generalizedAdvantages, klEstimates, tokenRewards, whiten } from '../ppo-math.js';
import { GradientSum, type LossGraph, LossSession } from '../step.js';
import {
  BOUND,
  checkGradients,
  checkNumber,
  passFeeds,
  relativeError,
  type TrainingReference,
} from './training-reference.js';

/** One array a row of the batch, of time - 1 entries. */
interface Episodes {
  readonly masks: readonly Uint8Array[];
  readonly rewards: readonly Float32Array[];
  readonly advantages: readonly Float32Array[];
  readonly returns: readonly Float32Array[];
  readonly whitened: readonly Float32Array[];
}

const flat = (rows: readonly Float32Array[]): Float32Array =>
  Float32Array.from(rows.flatMap((row) => [...row]));

function episodesOf(reference: TrainingReference): Episodes {
  const [rows, span] = reference.shape('ppo/mask');
  const cut = (name: string) => {
    const numbers = reference.numbers(name);
    return Array.from({ length: rows }, (_, row) =>
      Float32Array.from(numbers.slice(row * span, (row + 1) * span)),
    );
  };
  const [oldLogprobs, referenceLogprobs, values] = [
    cut('ppo/old_logprobs'),
    cut('ppo/ref_logprobs'),
    cut('ppo/old_values'),
  ];
  const masks = cut('ppo/mask').map((row) => Uint8Array.from(row));
  const scores = reference.numbers('ppo/scores');
  const figure = (name: string) => reference.figure(name, 'ppo');
  const rewards = masks.map((mask, row) =>
    tokenRewards(oldLogprobs[row]!, referenceLogprobs[row]!, scores[row]!, {
      klCoefficient: figure('beta'),
      scoreAt: mask.lastIndexOf(1),
    }),
  );
  const discounts = { gamma: figure('gamma'), lambda: figure('lam') };
  const computed = masks.map((mask, row) =>
    generalizedAdvantages(rewards[row]!, values[row]!, mask, discounts),
  );
  const advantages = computed.map((row) => row.advantages);
  const whitened = whiten(advantages, masks, { variance: 'population', mean: 'shift' });
  return { masks, rewards, advantages, returns: computed.map((row) => row.returns), whitened };
}

export function* verifyPpo(runtime: Runtime, reference: TrainingReference): Generator<Verdict> {
  const episodes = episodesOf(reference);
  for (const [name, rows] of [
    ['rewards', episodes.rewards],
    ['advantages', episodes.advantages],
    ['returns', episodes.returns],
    ['whitened_advantages', episodes.whitened],
  ] as const)
    yield checked(`ppo ${name}`, relativeError(flat(rows), reference.numbers(`ppo/${name}`)), BOUND);
  yield* verifyUpdate(runtime, reference, episodes);
}

function ppoGraph(reference: TrainingReference): LossGraph {
  const { config } = reference;
  const figure = (name: string) => reference.figure(name, 'ppo');
  const builder = new GraphBuilder('ppo', decoderAxes(config));
  const tokens = builder.input('tokens', 'int64', ['rows', 'time']);
  const picked = builder.input('picked', 'int64', ['picked']);
  const hidden = pick(decode(builder, config, tokens, { maxTime: config.contextLength }), picked);
  const targets = builder.input('targets', 'int64', ['picked']);
  const logprobs = targetLogprobs(languageHead(builder, config, hidden), targets);
  const values = scalarHead(builder, hidden, 'value');
  const input = (name: string) => builder.input(name, 'float32', ['picked']);
  const weights = input('weights');
  const policy = policyLoss({
    logprobs,
    oldLogprobs: input('old_logprobs'),
    advantages: input('advantages'),
    weights,
    clip: figure('clip'),
  });
  const value = valueLoss({
    values,
    oldValues: input('old_values'),
    returns: input('returns'),
    weights,
    clip: figure('value_clip'),
  });
  const loss = op.add(policy, op.mul(value, figure('vf_coef')));
  return { builder, loss, readings: { policy, value, logprobs, values } };
}

function* verifyUpdate(
  runtime: Runtime,
  reference: TrainingReference,
  { masks, returns, whitened }: Episodes,
): Generator<Verdict> {
  const layout = layoutOf(reference.config, ['language', 'value']);
  using session = new LossSession(runtime, ppoGraph(reference), layout);
  using parameters = new ParameterArena(runtime, layout);
  using gradients = new ParameterArena(runtime, layout);
  reference.load(parameters);
  const mask = masks.flatMap((row) => [...row]);
  const counted = (values: ArrayLike<number>) => Array.from(values).filter((_, i) => mask[i] === 1);
  const stored = (name: string) => counted(reference.numbers(`ppo/${name}`));
  const feed = (values: readonly number[]) => floatFeed(Float32Array.from(values));
  const shape = reference.shape('logits/input_ids');
  const [, time] = shape;
  const positions = mask.flatMap((bit, i) =>
    bit === 1 ? [Math.floor(i / (time - 1)) * time + (i % (time - 1))] : [],
  );
  const count = positions.length;
  const found = session.run(
    {
      ...passFeeds(reference.numbers('logits/input_ids'), shape, positions),
      old_logprobs: feed(stored('old_logprobs')),
      old_values: feed(stored('old_values')),
      advantages: feed(counted(flat(whitened))),
      returns: feed(counted(flat(returns))),
      weights: floatFeed(new Float32Array(count).fill(1 / count)),
    },
    parameters,
    gradients,
    { logprobs: count, values: count },
  );
  yield checked('ppo new_logprobs', relativeError(found.logprobs!, stored('new_logprobs')), BOUND);
  yield checked('ppo new_values', relativeError(found.values!, stored('new_values')), BOUND);
  yield checkNumber('ppo policy loss', found.policy![0]!, reference.figure('policy_loss', 'ppo'));
  yield checkNumber('ppo value loss', found.value![0]!, reference.figure('value_loss', 'ppo'));
  yield* verifyRatios(reference, found.logprobs!, stored('old_logprobs'), stored('ref_logprobs'));
  const pretraining = addPretraining(runtime, reference, parameters, gradients);
  const weight = reference.figure('ptx_coef', 'ppo');
  yield checkNumber('ppo pretraining loss', pretraining / weight, reference.figure('pretrain_loss', 'ppo'));
  yield checkNumber('ppo total loss', found.loss![0]! + pretraining, reference.figure('total_loss', 'ppo'));
  yield* checkGradients(reference, 'ppo', gradients);
}

/** What a run logs of its ratios. */
function* verifyRatios(
  reference: TrainingReference,
  logprobs: Float32Array,
  old: readonly number[],
  start: readonly number[],
): Generator<Verdict> {
  const mean = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length;
  const differences = old.map((each, i) => logprobs[i]! - each);
  const figure = (name: string) => reference.figure(name, 'ppo');
  const kl = mean(old.map((each, i) => klEstimates(each - start[i]!).k1));
  yield checkNumber('ppo KL to the start policy', kl, figure('kl_mean'));
  const approximate = mean(differences.map((difference) => klEstimates(difference).k2));
  yield checkNumber('ppo approximate KL of the update', approximate, figure('approx_kl'));
  const clipped = differences.map((each) => (Math.abs(Math.exp(each) - 1) > figure('clip') ? 1 : 0));
  yield checkNumber('ppo clip fraction', mean(clipped), figure('clip_fraction'));
}

/** PPO-ptx: the pretraining gradient joins the same buffer before the one optimizer step. Gives its weighted loss. */
function addPretraining(
  runtime: Runtime,
  reference: TrainingReference,
  parameters: ParameterArena,
  gradients: ParameterArena,
): number {
  const { config } = reference;
  using session = new LossSession(
    runtime,
    languageLossGraph(config, { maxTime: config.contextLength }),
    gradients.layout,
  );
  using fresh = new ParameterArena(runtime, gradients.layout);
  using sum = new GradientSum(runtime);
  const shape = reference.shape('ppo/pretrain_ids');
  const [rows, time] = shape;
  const positions = Array.from(
    { length: rows * (time - 1) },
    (_, i) => Math.floor(i / (time - 1)) * time + (i % (time - 1)),
  );
  const weight = reference.figure('ptx_coef', 'ppo') / positions.length;
  const weights = floatFeed(new Float32Array(positions.length).fill(weight));
  const feeds = { ...passFeeds(reference.numbers('ppo/pretrain_ids'), shape, positions), weights };
  const { loss } = session.run(feeds, parameters, fresh);
  sum.add(gradients, fresh);
  return loss![0]!;
}
