import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { AppError } from '../../../src/core/errors.js';
import { Rng } from '../../../src/core/rng.js';
import { openRuntime } from '../../../src/models/runtime/open-runtime.js';
import { readModelConfig } from '../../../src/models/transformer/load-decoder.js';
import {
  floatFeed,
  languageFeeds,
  languageLossGraph,
  learnedTokens,
} from '../../../src/train/language-loss.js';
import { layoutOf } from '../../../src/train/model-weights.js';
import { type SftJob, type SftOptions, trainSft } from '../../../src/train/sft.js';
import { LossSession } from '../../../src/train/step.js';
import { openTrainable } from '../../../src/train/training-job.js';
import { sharedPath, skipWithoutShared } from '../../shared.js';
import {
  collect,
  hashOf,
  lossesOf,
  placeIn,
  randomExamples,
  scratchDirectory,
  sftOptions,
  weightsHash,
} from './tiny-training.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

const never = { signal: new AbortController().signal };

const jobOf = (options: Partial<SftOptions> = {}, change: Partial<SftJob> = {}): SftJob => ({
  place: placeIn(scratchDirectory()),
  options: { ...sftOptions, ...options },
  train: randomExamples(24, 1),
  validation: [],
  pretraining: [],
  ...change,
});

describe('supervised fine-tuning', { skip: skipWithoutShared }, () => {
  test('the same seed gives the same weights, bit for bit; another seed does not', async () => {
    const run = async (seed: number) => {
      const job = jobOf({ seed, dropout: 0.1 });
      await collect(trainSft(runtime, job, never));
      return weightsHash(job.place);
    };
    assert.equal(await run(3), await run(3));
    assert.notEqual(await run(3), await run(4));
  });

  test('a batch split 1, 2, 4 and 8 ways gives the same gradient, to 1e-6 of its largest element', () => {
    const config = readModelConfig(sharedPath('reference', 'llama'));
    const layout = layoutOf(config, ['language']);
    const rows = randomExamples(8, 5);
    const learned = rows.reduce((sum, row) => sum + learnedTokens(row), 0);
    using session = new LossSession(runtime, languageLossGraph(config, { maxTime: 64 }), layout);
    const gradientOf = (pieces: number) => {
      using model = openTrainable(runtime, sharedPath('reference', 'llama'), ['language'], {
        ...sftOptions,
        seed: 1,
      });
      for (let from = 0; from < 8; from += 8 / pieces) {
        const { feeds, picked } = languageFeeds(rows.slice(from, from + 8 / pieces));
        const weights = floatFeed(new Float32Array(picked).fill(1 / learned));
        model.accumulate(session, { ...feeds, weights });
      }
      return model.gradients.flat.host!.slice();
    };
    const whole = gradientOf(1);
    const largest = whole.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    assert.ok(largest > 0.01);
    for (const pieces of [2, 4, 8]) {
      const error = gradientOf(pieces).reduce((most, x, i) => Math.max(most, Math.abs(x - whole[i]!)), 0);
      assert.ok(error < 1e-6 * largest, `${pieces} pieces: ${error / largest}`);
    }
  });

  test('the token budget of a micro-batch changes no loss and no dropped element', async () => {
    const run = async (microBatchTokens: number) => {
      const job = jobOf({ microBatchTokens, dropout: 0.1, epochs: 1 });
      const steps = (await collect(trainSft(runtime, job, never))).filter((event) => event.type === 'step');
      return steps.map(({ loss, metrics }) => ({ loss, pieces: metrics.microBatches! }));
    };
    const whole = await run(4096);
    for (const [budget, most] of [
      [64, 2],
      [28, 3],
      [1, 8],
    ] as const)
      for (const [i, { loss, pieces }] of (await run(budget)).entries()) {
        assert.ok(whole[i]!.pieces === 1 && pieces >= most, `${pieces} pieces`);
        assert.ok(Math.abs(loss - whole[i]!.loss) < 1e-5, `${loss} is not ${whole[i]!.loss}`);
      }
  });

  test('a tiny set is learned to a loss under 0.02', async () => {
    const job = jobOf({ epochs: 150, learningRate: 1e-2, batchSize: 4 }, { train: randomExamples(4, 9) });
    const losses = lossesOf(await collect(trainSft(runtime, job, never)));
    assert.ok(losses[0]! > 3, `starts at ${losses[0]}`);
    assert.ok(losses.at(-1)! < 0.02, `ends at ${losses.at(-1)}`);
  });

  test('the epoch with the best score is the result, whatever the later ones do', async () => {
    const scores = [1, 5, 2];
    const job = jobOf({ epochs: 3, selection: 'score' }, { score: async (_, epoch) => scores[epoch]! });
    const hashes: string[] = [];
    for await (const event of trainSft(runtime, job, never))
      if (event.type === 'evaluation') {
        assert.equal(event.best, event.epoch < 2);
        hashes.push(weightsHash(job.place));
      }
    assert.notEqual(hashes[0], hashes[1]);
    assert.equal(hashes[1], hashes[2]);
  });

  test('a pretraining mix fills its share of every batch', async () => {
    const job = jobOf(
      { pretrainingShare: 0.25, epochs: 1 },
      { pretraining: [{ tokens: Int32Array.from({ length: 31 }, () => 5), start: 1 }] },
    );
    const steps = (await collect(trainSft(runtime, job, never))).filter((event) => event.type === 'step');
    assert.equal(steps.length, 4, '24 demonstrations, 6 a batch');
    for (const { metrics } of steps) assert.ok(metrics.learnedTokens! >= 2 * 30 + 6);
  });

  test('a run that is asked to stop leaves a checkpoint, and goes on from it to the same weights', async () => {
    const undisturbed = jobOf();
    await collect(trainSft(runtime, undisturbed, never));
    const directory = scratchDirectory();
    const checkpoints = { directory: join(directory, 'checkpoints'), everySteps: 100, keep: 1 };
    const job = { ...undisturbed, place: placeIn(directory, { checkpoints }) };
    const controller = new AbortController();
    const first = [];
    for await (const event of trainSft(runtime, job, { signal: controller.signal })) {
      first.push(event);
      if (event.type === 'step' && event.step === 2) controller.abort();
    }
    const stopped = first.at(-1)!;
    assert.ok(stopped.type === 'stopped' && stopped.reason === 'aborted' && stopped.checkpoint !== null);
    const rest = await collect(trainSft(runtime, job, never));
    assert.equal(rest[0]?.type === 'step' && rest[0].step, 3);
    assert.equal(weightsHash(job.place), weightsHash(undisturbed.place));
  });

  test('a loss that is not finite stops the run with a reason and keeps the last checkpoint', async () => {
    const directory = scratchDirectory();
    const checkpoints = { directory: join(directory, 'checkpoints'), everySteps: 1, keep: 2 };
    const options = { learningRate: 1e30, optimizer: { ...sftOptions.optimizer, clipNorm: null } };
    const events = await collect(
      trainSft(runtime, jobOf(options, { place: placeIn(directory, { checkpoints }) }), never),
    );
    const stopped = events.at(-1)!;
    assert.ok(stopped.type === 'stopped' && stopped.reason === 'not_finite', JSON.stringify(stopped));
    assert.ok(stopped.checkpoint !== null && statSync(stopped.checkpoint).size > 0);
  });

  test('a checkpoint of another run or with a missing end is refused, and stays', async () => {
    const directory = scratchDirectory();
    const checkpoints = { directory: join(directory, 'checkpoints'), everySteps: 2, keep: 2 };
    const job = jobOf({ epochs: 1 }, { place: placeIn(directory, { checkpoints }) });
    await collect(trainSft(runtime, job, never));
    const codeOf = async (other: SftJob) =>
      collect(trainSft(runtime, other, never)).then(
        () => 'none',
        (error: unknown) => (error as AppError).code,
      );
    assert.equal(await codeOf({ ...job, options: { ...job.options, learningRate: 1 } }), 'run_mismatch');
    assert.equal(await codeOf({ ...job, train: randomExamples(24, 2) }), 'run_mismatch');
    const file = readdirSync(checkpoints.directory).sort().at(-1);
    truncateSync(join(checkpoints.directory, file!), 5000);
    assert.equal(await codeOf(job), 'checkpoint_invalid');
    assert.ok(readdirSync(checkpoints.directory).includes(file!));
  });

  test('a job without what its options need is refused by field', async () => {
    for (const [options, param] of [
      [{ selection: 'score' }, 'selection'],
      [{ selection: 'validation_loss' }, 'selection'],
      [{ pretrainingShare: 0.1 }, 'pretrainingShare'],
    ] as const)
      await assert.rejects(
        collect(trainSft(runtime, jobOf(options), never)),
        (error) => error instanceof AppError && error.param === param,
      );
  });
});

/** Runs the job of sft-process.ts, and kills it where `killAt` says. */
async function runProcess(directory: string, killAt: number): Promise<number> {
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('./sft-process.js', import.meta.url)), directory],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let last = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    const event = JSON.parse(line) as { type: string; step: number };
    last = event.step;
    if (event.type === 'step' && event.step === killAt) child.kill('SIGKILL');
  }
  return last;
}

describe('a killed run', { skip: skipWithoutShared }, () => {
  test('killed twice at random steps it ends with the weights and the state of an undisturbed one, bit for bit', async () => {
    const [whole, killed] = [scratchDirectory(), scratchDirectory()];
    const steps = await runProcess(whole, Infinity);
    assert.equal(steps, 28);
    const rng = new Rng(BigInt(process.hrtime.bigint()));
    const kills = [2 + rng.below(10), 14 + rng.below(12)];
    for (const at of kills) await runProcess(killed, at);
    assert.equal(await runProcess(killed, Infinity), 28);
    const told = `killed at steps ${kills}`;
    assert.equal(
      hashOf(join(killed, 'model/model.safetensors')),
      hashOf(join(whole, 'model/model.safetensors')),
      told,
    );
    const last = 'checkpoints/step-00000028.safetensors';
    assert.equal(hashOf(join(killed, last)), hashOf(join(whole, last)), told);
    assert.deepEqual(
      readdirSync(join(killed, 'checkpoints')).sort(),
      ['step-00000027.safetensors', 'step-00000028.safetensors'],
      'the last two stay and no partial file',
    );
  });
});
