/**
 * The optimum of a KL-penalised reward is known: pi* = pi_ref e^(r / beta) / Z with J* = beta ln Z. With 4 tokens and responses of 4 there
 * are 256 strings, so J of any policy is a finite sum and needs no sampling.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Rng } from '../../../../src/core/rng.js';
import { type TokenId, tokenId } from '../../../../src/core/units.js';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import { parseModelConfig } from '../../../../src/models/transformer/model-config.js';
import { ReferencePolicy } from '../../../../src/train/ppo/reference-policy.js';
import { functionReward } from '../../../../src/train/ppo/reward-source.js';
import type { Episode } from '../../../../src/train/ppo/rollout.js';
import { run, Scratch, smallJob, smallOptions, stepsOf } from './ppo-fixture.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

const VOCABULARY = 4;
const LENGTH = 4;
const BETA = 1;
const PROMPT = [tokenId(0)];
const STRINGS = VOCABULARY ** LENGTH;

const digits = (string: number): TokenId[] =>
  Array.from({ length: LENGTH }, (_, t) => tokenId(Math.floor(string / VOCABULARY ** t) % VOCABULARY));
const numberOf = (response: readonly TokenId[]): number =>
  response.reduce((sum, id, t) => sum + id * VOCABULARY ** t, 0);

/** log-probability of every string, by the trainer's own graph. */
function distribution(directory: string): number[] {
  const config = parseModelConfig(JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8')));
  using policy = new ReferencePolicy(runtime, directory, config, {
    maxTime: 1 + LENGTH,
    temperature: 1,
    microBatchRows: STRINGS,
  });
  const episodes = Array.from({ length: STRINGS }, (_, index): Episode => {
    const response = digits(index);
    return {
      index,
      prompt: PROMPT,
      response,
      logprobs: new Float32Array(LENGTH),
      entropy: 0,
      isEnded: false,
    };
  });
  return policy.logprobs(episodes).map((row) => row.reduce((sum, logprob) => sum + logprob, 0));
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** E[r] - beta KL(pi || pi_ref), exactly. */
const objective = (
  logprobs: readonly number[],
  reference: readonly number[],
  rewards: readonly number[],
): number =>
  sum(logprobs.map((logprob, s) => Math.exp(logprob) * (rewards[s]! - BETA * (logprob - reference[s]!))));

test('PPO closes over 90 % of the gap to the exact optimum and never passes it', async () => {
  using scratch = new Scratch();
  const rng = new Rng(11);
  const rewards = Array.from({ length: STRINGS }, () => rng.normal());
  const batchSize = 256;
  const job = smallJob(scratch, {
    reward: functionReward(({ response }) => rewards[numberOf(response)]!),
    prompts: [PROMPT],
    stopIds: new Set(),
    options: {
      ...smallOptions,
      iterations: 240,
      batchSize,
      minibatches: 4,
      epochs: 2,
      microBatchRows: batchSize,
      rolloutRows: batchSize,
      responseTokens: LENGTH,
      learningRate: 2e-3,
      critic: { type: 'separate', learningRate: 1e-2 },
      schedule: { type: 'linear', warmUpSteps: 0, finalFraction: 0 },
      lambda: 1,
      kl: { type: 'fixed', coefficient: BETA },
    },
    place: {
      model: scratch.llama('ref', { vocabulary: VOCABULARY, deviation: 0.3, contextLength: 16 }),
      output: scratch.path('output'),
      precision: 'float32',
      checkpoints: null,
    },
  });
  const reference = distribution(job.place.model);
  assert.ok(Math.abs(sum(reference.map(Math.exp)) - 1) < 1e-5, 'the strings are all there are');
  const best = BETA * Math.log(sum(reference.map((logprob, s) => Math.exp(logprob + rewards[s]! / BETA))));
  const start = objective(reference, reference, rewards);

  const steps = stepsOf(await run(runtime, job));
  const final = objective(distribution(job.place.output), reference, rewards);
  const share = (final - start) / (best - start);
  assert.ok(share > 0.9, `only ${(100 * share).toFixed(1)} % of the gap from ${start} to ${best}`);
  assert.ok(final <= best + 1e-4, `${final} is over the optimum ${best}`);
  for (const { rewardMean, rewardDeviation, klK1 } of steps) {
    const sampled = rewardMean! - BETA * klK1!;
    const error = (5 * rewardDeviation!) / Math.sqrt(batchSize);
    assert.ok(
      sampled <= best + error,
      `a batch gave ${sampled}, over the optimum ${best} by more than ${error}`,
    );
  }
});
