import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { tokenId } from '../../../../src/core/units.js';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import type { PpoHyperparameters } from '../../../../src/train/ppo/ppo-presets.js';
import { ppoPresets } from '../../../../src/train/ppo/ppo-presets.js';
import { RewardNetwork } from '../../../../src/train/ppo/reward-network.js';
import { functionReward } from '../../../../src/train/ppo/reward-source.js';
import { run, Scratch, smallJob, smallOptions, stepsOf } from './ppo-fixture.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

const hashOf = (directory: string): string =>
  createHash('sha256')
    .update(readFileSync(join(directory, 'model.safetensors')))
    .digest('hex');

const presets = Object.entries(ppoPresets) as [string, PpoHyperparameters][];

for (const [name, preset] of presets) {
  test(`${name}: before its first step the ratio is 1, nothing is clipped and the policy has not moved`, async () => {
    using scratch = new Scratch();
    const { iterations, batchSize, microBatchRows, rolloutRows, responseTokens, seed } = smallOptions;
    const size = { iterations, batchSize, microBatchRows, rolloutRows, responseTokens, seed };
    const steps = stepsOf(
      await run(
        runtime,
        smallJob(scratch, {
          options: { ...preset, ...size, minibatches: 1, epochs: 1, learningRate: 1e-3 },
          pretraining: [[1, 2, 3, 4, 5].map(tokenId), [6, 7, 8].map(tokenId)],
        }),
      ),
    );
    assert.equal(steps.length, iterations);
    for (const { samplerGap, firstApproximateKl, firstClipFraction, ratioMean, ratioMax } of steps) {
      assert.ok(samplerGap! < 1e-4 && samplerGap! > 0, `gap ${samplerGap}`);
      assert.ok(firstApproximateKl! < 1e-9, `approximate KL ${firstApproximateKl}`);
      assert.equal(firstClipFraction, 0);
      assert.ok(Math.abs(ratioMean! - 1) < 1e-4 && Math.abs(ratioMax! - 1) < 1e-4);
    }
    assert.ok(Math.abs(steps[0]!.klK1!) < 1e-3, 'at the start the policy is the reference');
    assert.ok(steps[2]!.klK3! > 1e-7, 'and later it is not');
  });
}

test('a reward for one token raises it, in every way of having a value function', async () => {
  for (const critic of [
    { type: 'separate', learningRate: 2e-3 },
    { type: 'joint', coefficient: 0.1 },
    { type: 'shared_trunk', coefficient: 0.1 },
  ] as const) {
    using scratch = new Scratch();
    const options = { ...smallOptions, critic, iterations: 25, batchSize: 32, learningRate: 2e-3 };
    const steps = stepsOf(await run(runtime, smallJob(scratch, { options })));
    const [first, last] = [steps[0]!, steps.at(-1)!];
    assert.ok(first.rewardMean! < 0.2, `${critic.type} starts at ${first.rewardMean}`);
    assert.ok(last.rewardMean! > 0.6, `${critic.type} ends at ${last.rewardMean}`);
    assert.ok(last.entropy! < first.entropy!);
  }
});

test('the KL coefficient holds the policy back', async () => {
  const finalKl = async (coefficient: number): Promise<number> => {
    using scratch = new Scratch();
    const options = {
      ...smallOptions,
      iterations: 15,
      batchSize: 32,
      learningRate: 2e-3,
      kl: { type: 'fixed', coefficient } as const,
    };
    return stepsOf(await run(runtime, smallJob(scratch, { options }))).at(-1)!.klK3!;
  };
  const [free, held] = [await finalKl(0), await finalKl(1)];
  assert.ok(held < 0.3 * free, `KL ${held} with the penalty, ${free} without`);
});

test('PPO-ptx lowers the loss on pretraining text while PPO alone does not', async () => {
  const documents = [
    [2, 3, 4, 5, 6, 7, 8],
    [3, 4, 5, 6, 7],
  ].map((ids) => ids.map(tokenId));
  using scratch = new Scratch();
  const options = {
    ...smallOptions,
    iterations: 12,
    pretraining: { coefficient: 27.8, rowsPerEpisode: 1 },
  };
  const steps = stepsOf(await run(runtime, smallJob(scratch, { options, pretraining: documents })));
  assert.ok(steps.at(-1)!.pretrainingLoss! < 0.8 * steps[0]!.pretrainingLoss!);
  const without = stepsOf(await run(runtime, smallJob(scratch, { pretraining: documents })));
  assert.ok(without.every(({ pretrainingLoss }) => pretrainingLoss === 0));
});

test('how a minibatch is cut into micro-batches and a rollout into rows changes no gradient', async () => {
  const firstStep = async (microBatchRows: number, rolloutRows: number) => {
    using scratch = new Scratch();
    const options = { ...smallOptions, microBatchRows, rolloutRows, iterations: 1, minibatches: 1 };
    const events = await run(runtime, smallJob(scratch, { options }));
    return events.find((event) => event.type === 'step')!;
  };
  const [whole, pieces] = [await firstStep(16, 16), await firstStep(3, 5)];
  const near = (one: number, other: number, what: string) =>
    assert.ok(Math.abs(one - other) < 2e-5 * Math.max(1, Math.abs(one)), `${what}: ${one} is not ${other}`);
  near(whole.gradientNorm, pieces.gradientNorm, 'gradient norm');
  for (const key of ['klK1', 'rewardMean', 'policyLoss', 'valueLoss', 'valueGradientNorm', 'entropy'])
    near(whole.metrics[key]!, pieces.metrics[key]!, key);
});

test('the same seed gives the same weights, another one gives others', async () => {
  const weights = async (seed: number): Promise<string> => {
    using scratch = new Scratch();
    const job = smallJob(scratch, { options: { ...smallOptions, seed, averageDecay: 0.9 } });
    await run(runtime, job);
    return hashOf(job.place.output);
  };
  assert.equal(await weights(1), await weights(1));
  assert.notEqual(await weights(1), await weights(2));
});

test('a response without EOS gets the score of its rule', async () => {
  using scratch = new Scratch();
  const ruled = async (missingEos: PpoHyperparameters['missingEos']) => {
    const options = { ...smallOptions, iterations: 1, responseEnd: 'full_length', missingEos } as const;
    const reward = functionReward(() => 3);
    return stepsOf(await run(runtime, smallJob(scratch, { options, reward })))[0]!;
  };
  assert.equal((await ruled({ type: 'none' })).rewardMean, 3);
  assert.equal((await ruled({ type: 'replace', score: -1 })).rewardMean, -1);
  assert.equal((await ruled({ type: 'subtract', penalty: 1.5 })).rewardMean, 1.5);
  assert.equal((await ruled({ type: 'none' })).endedShare, 0);
});

test('a value function that starts as the reward model knows the last state of a response', async () => {
  using scratch = new Scratch();
  const directory = scratch.llama('reward', { head: 'reward', seed: 8 });
  using reward = new RewardNetwork(runtime, directory, { maxTime: 16, batchRows: 4, ending: [] });
  const samples = [[1, 2, 9], [5, 5, 5, 5], [3]].map((ids) => ({
    prompt: [tokenId(4)],
    response: ids.map(tokenId),
    isEnded: false,
    promptText: '',
    responseText: '',
  }));
  const together = await reward.score(samples);
  for (const [at, sample] of samples.entries()) {
    const [alone] = await reward.score([sample]);
    assert.ok(Math.abs(alone! - together[at]!) < 1e-5, 'padding changes a score');
  }
  assert.ok(new Set(together).size === 3);
  // The value loss before any step is small where values are the reward model's own and responses are one token long.
  const job = smallJob(scratch, {
    reward,
    value: { type: 'reward_model', directory },
    options: { ...smallOptions, iterations: 1, responseTokens: 1 },
  });
  const [step] = stepsOf(await run(runtime, job));
  assert.ok(Number.isFinite(step!.valueLoss!) && step!.explainedVariance! < 1);
});

test('settings out of range, no prompts and a prompt too long are refused before anything runs', async () => {
  using scratch = new Scratch();
  const refused = (changes: Parameters<typeof smallJob>[1], code: string) =>
    assert.rejects(run(runtime, smallJob(scratch, changes)), { code });
  await refused({ options: { ...smallOptions, clip: 0 } }, 'invalid_value');
  await refused({ options: { ...smallOptions, minibatches: 17 } }, 'invalid_value');
  await refused({ options: { ...smallOptions, temperature: 0 } }, 'invalid_value');
  await refused({ prompts: [] }, 'dataset_empty');
  await refused({ prompts: [[]] }, 'invalid_value');
  await refused({ prompts: [new Array<number>(60).fill(1).map(tokenId)] }, 'example_too_long');
  const pretraining = { coefficient: 1, rowsPerEpisode: 1 };
  await refused({ options: { ...smallOptions, pretraining } }, 'dataset_empty');
});
