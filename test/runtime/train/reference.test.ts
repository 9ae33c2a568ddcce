import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Checkpoint } from '../../../src/models/checkpoint/checkpoint.js';
import { SafetensorsFile } from '../../../src/models/checkpoint/safetensors.js';
import { GraphBuilder } from '../../../src/models/graph/builder.js';
import * as op from '../../../src/models/graph/ops.js';
import { openRuntime } from '../../../src/models/runtime/open-runtime.js';
import { type ModelConfig, parseModelConfig } from '../../../src/models/transformer/model-config.js';
import { decode, decoderAxes } from '../../../src/train/differentiable-decoder.js';
import { languageHead, pick, scalarHead, targetLogprobs } from '../../../src/train/loss-heads.js';
import { negativeLogLikelihood, pairwiseLoss, policyLoss, valueLoss } from '../../../src/train/losses.js';
import { AdamW } from '../../../src/train/optim/adamw.js';
import { ParameterArena } from '../../../src/train/optim/parameter-arena.js';
import { generalizedAdvantages, tokenRewards, whiten } from '../../../src/train/ppo-math.js';
import { type Feed, type Feeds, GradientSum, type LossGraph, LossSession } from '../../../src/train/step.js';
import { sharedPath, skipWithoutShared } from '../../shared.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

interface Hyperparameters {
  readonly sft_loss: number;
  readonly sft_grad_norm: number;
  readonly adamw: {
    lr: number;
    betas: [number, number];
    eps: number;
    weight_decay: number;
    clip_norm: number;
    steps: number;
  };
  readonly adamw_losses: readonly number[];
  readonly rm_loss: number;
  readonly ppo: Record<
    | 'beta'
    | 'gamma'
    | 'lam'
    | 'clip'
    | 'value_clip'
    | 'vf_coef'
    | 'ptx_coef'
    | 'policy_loss'
    | 'value_loss'
    | 'pretrain_loss'
    | 'total_loss',
    number
  >;
}

/** A tiny checkpoint with PyTorch's numbers beside it. */
class Reference {
  readonly config: ModelConfig;
  readonly expected: Hyperparameters;
  readonly #directory: string;
  readonly #file: SafetensorsFile;
  constructor(architecture: string) {
    this.#directory = sharedPath('reference', architecture);
    const read = (name: string): unknown => JSON.parse(readFileSync(join(this.#directory, name), 'utf8'));
    this.config = parseModelConfig(read('config.json'));
    this.expected = read('reference.json') as Hyperparameters;
    this.#file = new SafetensorsFile(join(this.#directory, 'reference.safetensors'));
  }
  shape(name: string): readonly [number, number] {
    return this.#file.tensors.get(name)!.shape as unknown as [number, number];
  }
  numbers(name: string): number[] {
    const tensor = this.#file.tensors.get(name)!;
    const bytes = new Uint8Array(4 * tensor.shape.reduce((a, b) => a * b, 1));
    this.#file.readBytes(tensor, bytes, 0);
    return [...(tensor.type === 'F32' ? new Float32Array(bytes.buffer) : new Int32Array(bytes.buffer))];
  }
  /** The checkpoint's weights, and heads from the reference file where the graph has them. */
  load(parameters: ParameterArena): void {
    using checkpoint = Checkpoint.open(this.#directory);
    for (const { name, shape, length } of parameters.layout.entries) {
      const data = new Float32Array(length);
      const head = /^(?:score|value)\.(weight|bias)$/.exec(name);
      if (head === null) checkpoint.readFloats(checkpoint.require(name, shape), data);
      else data.set(this.numbers(`rm/head_${head[1]}`));
      parameters.view(name).write(data);
    }
  }
}

const indices = (values: readonly number[], shape: readonly number[] = [values.length]): Feed => ({
  type: 'int64',
  shape,
  data: BigInt64Array.from(values, (x) => BigInt(x)),
});
const floats = (values: readonly number[]): Feed => ({
  type: 'float32',
  shape: [values.length],
  data: Float32Array.from(values),
});

const largest = (values: readonly number[]): number =>
  values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

/** Largest difference as a share of the largest expected number, or of `floor` where that is larger. */
const largestError = (found: Float32Array, expected: readonly number[], floor = 1e-12): number => {
  assert.equal(found.length, expected.length);
  const scale = Math.max(floor, largest(expected));
  return expected.reduce((most, x, i) => Math.max(most, Math.abs(x - found[i]!)), 0) / scale;
};
const near = (found: number, expected: number, what: string) =>
  assert.ok(
    Math.abs(found - expected) <= 2e-5 * Math.max(1, Math.abs(expected)),
    `${what}: ${found} is not ${expected}`,
  );

/** Positions whose next token counts, in a [rows, time - 1] mask or a [rows, time] one shifted. */
const positionsOf = (mask: readonly number[], maskTime: number, time: number): number[] =>
  mask.flatMap((bit, i) => (bit === 1 ? [Math.floor(i / maskTime) * time + (i % maskTime)] : []));

/** Some gradients are 0 but for rounding (a bias that softmax or a difference cancels): a hundredth of the largest of all is the floor. */
function compareGradients(reference: Reference, stage: string, gradients: ParameterArena): void {
  const floor =
    0.01 *
    Math.max(
      ...gradients.layout.entries.map(({ name }) => largest(reference.numbers(`${stage}/grad/${name}`))),
    );
  for (const { name } of gradients.layout.entries) {
    const error = largestError(gradients.view(name).host!, reference.numbers(`${stage}/grad/${name}`), floor);
    assert.ok(error < 2e-5, `gradient of ${name}: ${error.toExponential(1)} of its largest element`);
  }
}

/** Inputs and log-probabilities of one language-model pass; `name` tells the passes of a graph apart. */
function languagePass(g: GraphBuilder, config: ModelConfig, name: string) {
  const tokens = g.input(`${name}.tokens`, 'int64', ['rows', 'time']);
  const picked = g.input(`${name}.picked`, 'int64', ['picked']);
  const targets = g.input(`${name}.targets`, 'int64', ['picked']);
  const hidden = pick(decode(g, config, tokens, { maxTime: config.contextLength }), picked);
  return { hidden, logprobs: targetLogprobs(languageHead(g, config, hidden), targets) };
}

const passFeeds = (
  name: string,
  ids: readonly number[],
  shape: readonly [number, number],
  positions: readonly number[],
): Feeds => ({
  [`${name}.tokens`]: indices(ids, shape),
  [`${name}.picked`]: indices(positions),
  [`${name}.targets`]: indices(positions.map((at) => ids[at + 1]!)),
});

function sftGraph(config: ModelConfig): LossGraph {
  const builder = new GraphBuilder('sft', decoderAxes(config));
  const { logprobs } = languagePass(builder, config, 'sft');
  const weights = builder.input('weights', 'float32', ['picked']);
  return { builder, loss: negativeLogLikelihood(logprobs, weights), readings: {} };
}

function sftFeeds(reference: Reference): Feeds {
  const shape = reference.shape('logits/input_ids');
  const ids = reference.numbers('logits/input_ids');
  const mask = reference.numbers('sft/response_mask');
  const counted = ids.flatMap((_, i) => (i % shape[1] < shape[1] - 1 && mask[i + 1] === 1 ? [i] : []));
  return { ...passFeeds('sft', ids, shape, counted), weights: floats(counted.map(() => 1 / counted.length)) };
}

function checkSft(reference: Reference): void {
  const { expected } = reference;
  using session = new LossSession(runtime, sftGraph(reference.config));
  using parameters = new ParameterArena(runtime, session.layout);
  using gradients = new ParameterArena(runtime, session.layout);
  reference.load(parameters);
  const feeds = sftFeeds(reference);
  near(session.run(feeds, parameters, gradients).loss![0]!, expected.sft_loss, 'loss');
  compareGradients(reference, 'sft', gradients);
  const { lr, betas, eps, weight_decay, clip_norm, steps } = expected.adamw;
  using optimizer = new AdamW(runtime, session.layout, {
    beta1: betas[0],
    beta2: betas[1],
    epsilon: eps,
    epsilonForm: 'torch',
    weightDecay: weight_decay,
    clipNorm: clip_norm,
  });
  for (let step = 0; step < steps; step++) {
    near(
      session.run(feeds, parameters, gradients).loss![0]!,
      expected.adamw_losses[step]!,
      `loss of step ${step}`,
    );
    const report = optimizer.step(parameters.flat, gradients.flat, lr);
    if (step === 0) near(report.gradientNorm, expected.sft_grad_norm, 'gradient norm');
  }
  // Adam divides a gradient by its own size, so where that is rounding noise the step is too: only elements with a gradient are compared.
  const floor =
    1e-3 *
    Math.max(...session.layout.entries.map(({ name }) => largest(reference.numbers(`sft/grad/${name}`))));
  let compared = 0;
  for (const { name } of session.layout.entries) {
    const first = reference.numbers(`sft/grad/${name}`);
    const after = reference.numbers(`sft/after/${name}`);
    const clear = after.map((_, i) => i).filter((i) => Math.abs(first[i]!) > floor);
    const moved = parameters.view(name).host!;
    const error = largestError(
      Float32Array.from(clear, (i) => moved[i]!),
      clear.map((i) => after[i]!),
      largest(after),
    );
    assert.ok(error < 2e-5, `${name} after ${steps} steps: ${error.toExponential(1)}`);
    compared += clear.length;
  }
  assert.ok(
    compared > 0.5 * session.layout.parameters,
    `only ${compared} of ${session.layout.parameters} have a gradient`,
  );
}

function checkReward(reference: Reference): void {
  const { config } = reference;
  const g = new GraphBuilder('reward', { ...decoderAxes(config), pairs: 'dynamic' });
  const tokens = g.input('tokens', 'int64', ['rows', 'time']);
  const picked = g.input('picked', 'int64', ['picked']);
  const scores = scalarHead(
    g,
    pick(decode(g, config, tokens, { maxTime: config.contextLength }), picked),
    'score',
  );
  const [winners, losers] = [g.input('winners', 'int64', ['pairs']), g.input('losers', 'int64', ['pairs'])];
  const { loss } = pairwiseLoss(scores, winners, losers, g.input('weights', 'float32', ['pairs']));
  using session = new LossSession(runtime, { builder: g, loss, readings: { scores } });
  using parameters = new ParameterArena(runtime, session.layout);
  using gradients = new ParameterArena(runtime, session.layout);
  reference.load(parameters);
  const shape = reference.shape('rm/input_ids');
  const mask = reference.numbers('rm/attention_mask');
  const last = Array.from(
    { length: shape[0] },
    (_, row) => row * shape[1] + mask.slice(row * shape[1], (row + 1) * shape[1]).lastIndexOf(1),
  );
  const pairs = last.flatMap((_, i) => last.slice(i + 1).map((_, j) => [i, i + 1 + j] as const));
  const feeds: Feeds = {
    tokens: indices(reference.numbers('rm/input_ids'), shape),
    picked: indices(last),
    winners: indices(pairs.map(([winner]) => winner)),
    losers: indices(pairs.map(([, loser]) => loser)),
    weights: floats(pairs.map(() => 1 / pairs.length)),
  };
  const found = session.run(feeds, parameters, gradients, { scores: last.length });
  assert.ok(largestError(found.scores!, reference.numbers('rm/scores')) < 2e-5);
  near(found.loss![0]!, reference.expected.rm_loss, 'loss');
  compareGradients(reference, 'rm', gradients);
}

function ppoGraph(reference: Reference): LossGraph {
  const { config, expected } = reference;
  const builder = new GraphBuilder('ppo', decoderAxes(config));
  const { hidden, logprobs } = languagePass(builder, config, 'rollout');
  const input = (name: string) => builder.input(name, 'float32', ['picked']);
  const weights = input('weights');
  const values = scalarHead(builder, hidden, 'value');
  const policy = policyLoss({
    logprobs,
    oldLogprobs: input('old_logprobs'),
    advantages: input('advantages'),
    weights,
    clip: expected.ppo.clip,
  });
  const value = valueLoss({
    values,
    oldValues: input('old_values'),
    returns: input('returns'),
    weights,
    clip: expected.ppo.value_clip,
  });
  const loss = op.add(policy, op.mul(value, expected.ppo.vf_coef));
  return { builder, loss, readings: { policy, value, logprobs, values } };
}

function checkPpo(reference: Reference): void {
  const { ppo } = reference.expected;
  const shape = reference.shape('logits/input_ids');
  const [rows, time] = shape;
  const span = time - 1;
  const rowOf = (name: string) => (row: number) =>
    Float32Array.from(reference.numbers(name).slice(row * span, (row + 1) * span));
  const mask = reference.numbers('ppo/mask');
  const masks = Array.from({ length: rows }, (_, row) =>
    Uint8Array.from(mask.slice(row * span, (row + 1) * span)),
  );
  const scores = reference.numbers('ppo/scores');
  const rewards = masks.map((bits, row) =>
    tokenRewards(rowOf('ppo/old_logprobs')(row), rowOf('ppo/ref_logprobs')(row), scores[row]!, {
      klCoefficient: ppo.beta,
      scoreAt: bits.lastIndexOf(1),
    }),
  );
  const computed = masks.map((bits, row) =>
    generalizedAdvantages(rewards[row]!, rowOf('ppo/old_values')(row), bits, {
      gamma: ppo.gamma,
      lambda: ppo.lam,
    }),
  );
  const white = whiten(
    computed.map(({ advantages }) => advantages),
    masks,
    { variance: 'population', mean: 'shift' },
  );
  const flat = (arrays: readonly Float32Array[]) => Float32Array.from(arrays.flatMap((array) => [...array]));
  assert.ok(largestError(flat(rewards), reference.numbers('ppo/rewards')) < 2e-5);
  assert.ok(
    largestError(flat(computed.map(({ advantages }) => advantages)), reference.numbers('ppo/advantages')) <
      2e-5,
  );
  assert.ok(
    largestError(flat(computed.map(({ returns }) => returns)), reference.numbers('ppo/returns')) < 2e-5,
  );
  assert.ok(largestError(flat(white), reference.numbers('ppo/whitened_advantages')) < 2e-5);

  using session = new LossSession(runtime, ppoGraph(reference));
  using parameters = new ParameterArena(runtime, session.layout);
  using gradients = new ParameterArena(runtime, session.layout);
  reference.load(parameters);
  const positions = positionsOf(mask, span, time);
  const counted = (values: readonly number[]) => values.filter((_, i) => mask[i] === 1);
  const pretrainShape = reference.shape('ppo/pretrain_ids');
  const every = positionsOf(
    new Array<number>(pretrainShape[0] * (pretrainShape[1] - 1)).fill(1),
    pretrainShape[1] - 1,
    pretrainShape[1],
  );
  const found = session.run(
    {
      ...passFeeds('rollout', reference.numbers('logits/input_ids'), shape, positions),
      old_logprobs: floats(counted(reference.numbers('ppo/old_logprobs'))),
      old_values: floats(counted(reference.numbers('ppo/old_values'))),
      advantages: floats(counted([...flat(white)])),
      returns: floats(counted([...flat(computed.map(({ returns }) => returns))])),
      weights: floats(positions.map(() => 1 / positions.length)),
    },
    parameters,
    gradients,
    { logprobs: positions.length, values: positions.length },
  );
  near(found.policy![0]!, ppo.policy_loss, 'policy loss');
  near(found.value![0]!, ppo.value_loss, 'value loss');
  // PPO-ptx: the pretraining gradient joins the same buffer before the one optimizer step.
  using pretrain = new LossSession(runtime, sftGraph(reference.config), session.layout);
  using pretrainGradients = new ParameterArena(runtime, session.layout);
  using sum = new GradientSum(runtime);
  const weights = floats(every.map(() => ppo.ptx_coef / every.length));
  const ids = reference.numbers('ppo/pretrain_ids');
  const ptx = pretrain.run(
    { ...passFeeds('sft', ids, pretrainShape, every), weights },
    parameters,
    pretrainGradients,
  );
  sum.add(gradients, pretrainGradients);
  near(ptx.loss![0]! / ppo.ptx_coef, ppo.pretrain_loss, 'pretraining loss');
  near(found.loss![0]! + ptx.loss![0]!, ppo.total_loss, 'total loss');
  assert.ok(largestError(found.logprobs!, counted(reference.numbers('ppo/new_logprobs'))) < 2e-5);
  assert.ok(largestError(found.values!, counted(reference.numbers('ppo/new_values'))) < 2e-5);
  compareGradients(reference, 'ppo', gradients);
}

for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2']) {
  describe(`${architecture} equals PyTorch`, { skip: skipWithoutShared }, () => {
    const check = (name: string, run: (reference: Reference) => void) =>
      test(name, () => run(new Reference(architecture)));
    check('SFT loss, every gradient, and every parameter after three clipped AdamW steps', checkSft);
    check('reward scores, pairwise loss and every gradient', checkReward);
    check('PPO rewards, advantages, losses with PPO-ptx, and every gradient', checkPpo);
  });
}
