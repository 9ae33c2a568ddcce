import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Rng } from '../../../src/core/rng.js';
import { SafetensorsFile } from '../../../src/models/checkpoint/safetensors.js';
import { openRuntime } from '../../../src/models/runtime/open-runtime.js';
import { rankedPairs } from '../../../src/train/comparisons.js';
import type { RankedExample } from '../../../src/train/data/examples.js';
import { type DpoJob, type DpoOptions, trainDpo } from '../../../src/train/dpo.js';
import type { EvaluationEvent, StepEvent, TrainEvent } from '../../../src/train/events.js';
import { type RewardJob, type RewardOptions, trainReward } from '../../../src/train/reward.js';
import { instructGptAdam } from '../../../src/train/training-job.js';
import { skipWithoutShared } from '../../shared.js';
import { collect, placeIn, scratchDirectory, VOCABULARY, weightsHash } from './tiny-training.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

const never = { signal: new AbortController().signal };

/** The token that the labelers like: an answer is better the more of it there is; equal counts are ties. */
const LIKED = 5;

function comparisons(count: number, seed: number): RankedExample[] {
  const rng = new Rng(seed, 5);
  const draw = () => 6 + rng.below(VOCABULARY - 6);
  const make = (): RankedExample => {
    const prompt = Array.from({ length: 2 + rng.below(4) }, draw);
    const liked = Array.from({ length: 4 }, () => rng.below(4));
    const sequences = liked.map((many) => {
      const answer = Array.from({ length: 6 }, (_, i) => (i < many ? LIKED : draw()));
      return { tokens: Int32Array.from([...prompt, ...answer]), start: prompt.length };
    });
    const ranks = liked.map((many) => 1 + liked.filter((other) => other > many).length);
    return new Set(ranks).size === 1 ? make() : { sequences, ranks };
  };
  return Array.from({ length: count }, make);
}

const rewardOptions: RewardOptions = {
  epochs: 4,
  batchSize: 8,
  microBatchTokens: 256,
  learningRate: 3e-3,
  schedule: { type: 'cosine', warmUpSteps: 0, finalFraction: 0.1 },
  optimizer: instructGptAdam,
  averageDecay: null,
  seed: 2,
  selection: 'last',
};

const rewardJob = (options: Partial<RewardOptions> = {}): RewardJob => ({
  place: placeIn(scratchDirectory()),
  options: { ...rewardOptions, ...options },
  train: comparisons(96, 1),
  heldOut: { prompts: comparisons(40, 2), labelers: comparisons(40, 3) },
  demonstrations: comparisons(20, 4).map(({ sequences }) => sequences[0]!),
});

const stepsOf = (events: readonly TrainEvent[]) =>
  events.filter((event): event is StepEvent => event.type === 'step');
const evaluationsOf = (events: readonly TrainEvent[]) =>
  events.filter((event): event is EvaluationEvent => event.type === 'evaluation');

const configOf = ({ place }: { place: { output: string } }) =>
  JSON.parse(readFileSync(join(place.output, 'config.json'), 'utf8')) as {
    instructd: { head: string; mean: number };
    architectures: string[];
  };

describe('a reward model', { skip: skipWithoutShared }, () => {
  test('learns a preference to 90 % and more of held-out pairs, in an interval that excludes chance', async () => {
    const job = rewardJob();
    const events = await collect(trainReward(runtime, job, never));
    const last = evaluationsOf(events).at(-1)!;
    for (const name of ['prompts', 'labelers']) {
      const report = last.report[name]!;
      assert.ok(report.accuracy > 0.9, `${name}: ${report.accuracy}`);
      assert.ok(report.interval.low > 0.8 && report.interval.high < 1.0001);
      const pairs = job.heldOut[name]!.reduce((sum, { ranks }) => sum + rankedPairs(ranks).length, 0);
      assert.equal(report.pairs, pairs, 'ties make no pair');
    }
    const { architectures, instructd } = configOf(job);
    assert.deepEqual([architectures, instructd.head], [['LlamaForSequenceClassification'], 'reward']);
    assert.ok(Number.isFinite(instructd.mean) && instructd.mean !== 0);
  });

  test('starts from a head with deviation 1 / sqrt(d + 1) and bias 0, so from a loss near ln 2', async () => {
    const job = rewardJob({ epochs: 1, learningRate: 0 });
    const [first] = stepsOf(await collect(trainReward(runtime, job, never)));
    using file = new SafetensorsFile(join(job.place.output, 'model.safetensors'));
    const read = (name: string) => {
      const tensor = file.tensors.get(name)!;
      const bytes = new Uint8Array(tensor.byteLength);
      file.readBytes(tensor, bytes);
      return new Float32Array(bytes.buffer);
    };
    const weights = read('score.weight');
    const deviation = Math.sqrt(weights.reduce((sum, x) => sum + x * x, 0) / weights.length);
    assert.equal(weights.length, 32);
    // The deviation of 32 draws is within 40 % of its mean, but for one seed in a thousand.
    assert.ok(Math.abs(deviation * Math.sqrt(33) - 1) < 0.4, `${deviation}`);
    assert.deepEqual([...read('score.bias')], [0]);
    assert.ok(first!.loss > 0.2 && first!.loss < 2, `${first!.loss}`);
  });

  test('gives the same losses however prompts are split into micro-batches', async () => {
    const run = async (microBatchTokens: number) =>
      stepsOf(await collect(trainReward(runtime, rewardJob({ microBatchTokens, epochs: 1 }), never)));
    const [whole, split] = [await run(100_000), await run(1)];
    for (const [i, { loss, metrics }] of split.entries()) {
      assert.deepEqual([metrics.microBatches, whole[i]!.metrics.microBatches], [8, 1]);
      assert.equal(metrics.pairs, whole[i]!.metrics.pairs);
      assert.ok(Math.abs(loss - whole[i]!.loss) < 1e-5, `${loss} is not ${whole[i]!.loss}`);
    }
  });
});

test('a comparison with one completion or all tied, and an empty set, start no run', async () => {
  const [good] = comparisons(1, 1);
  const one = { sequences: good!.sequences.slice(0, 1), ranks: [1] };
  const tied = { ...good!, ranks: [2, 2, 2, 2] };
  for (const [train, code, param] of [
    [[good!, one], 'invalid_value', 'train.1.ranks'],
    [[tied], 'invalid_value', 'train.0.ranks'],
    [[], 'dataset_empty', 'train'],
  ] as const) {
    await assert.rejects(collect(trainReward(runtime, { ...rewardJob(), train }, never)), { code, param });
    await assert.rejects(collect(trainDpo(runtime, { ...dpoJob(), train }, never)), { code, param });
  }
});

const dpoOptions: DpoOptions = {
  epochs: 3,
  batchSize: 8,
  microBatchTokens: 256,
  learningRate: 1e-3,
  schedule: { type: 'constant', warmUpSteps: 0 },
  optimizer: instructGptAdam,
  averageDecay: null,
  seed: 2,
  beta: 0.1,
  labelSmoothing: 0,
};

const dpoJob = (options: Partial<DpoOptions> = {}): DpoJob => ({
  place: placeIn(scratchDirectory()),
  options: { ...dpoOptions, ...options },
  train: comparisons(64, 1),
  validation: comparisons(24, 2),
});

describe('direct preference optimisation', { skip: skipWithoutShared }, () => {
  test('starts at a loss of ln 2 with margins of 0, with and without label smoothing', async () => {
    for (const labelSmoothing of [0, 0.2]) {
      const [first] = stepsOf(await collect(trainDpo(runtime, dpoJob({ labelSmoothing, epochs: 1 }), never)));
      assert.ok(Math.abs(first!.loss - Math.LN2) < 1e-6, `${first!.loss}`);
      assert.ok(Math.abs(first!.metrics.rewardMargin!) < 1e-6);
    }
  });

  test('moves held-out margins to the preferred side', async () => {
    const events = await collect(trainDpo(runtime, dpoJob(), never));
    const evaluations = evaluationsOf(events).map(({ metrics }) => metrics);
    assert.ok(evaluations.at(-1)!.validationAccuracy! > 0.8, JSON.stringify(evaluations));
    assert.ok(evaluations.at(-1)!.validationRewardMargin! > 0.1);
    assert.ok(stepsOf(events).at(-1)!.loss < 0.6);
  });

  test('takes its reference from the start model after a resume too', async () => {
    const whole = dpoJob();
    await collect(trainDpo(runtime, whole, never));
    const directory = scratchDirectory();
    const checkpoints = { directory: join(directory, 'checkpoints'), everySteps: 1, keep: 1 };
    const job = { ...whole, place: placeIn(directory, { checkpoints }) };
    const controller = new AbortController();
    for await (const event of trainDpo(runtime, job, { signal: controller.signal }))
      if (event.type === 'step' && event.step === 10) controller.abort();
    await collect(trainDpo(runtime, job, never));
    assert.equal(weightsHash(job.place), weightsHash(whole.place));
  });
});
