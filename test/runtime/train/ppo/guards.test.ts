import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import type { StoppedEvent, TrainEvent } from '../../../../src/train/events.js';
import type { PpoJob } from '../../../../src/train/ppo/ppo-job.js';
import type { GuardOptions } from '../../../../src/train/ppo/ppo-presets.js';
import { functionReward } from '../../../../src/train/ppo/reward-source.js';
import { readRollout } from '../../../../src/train/ppo/rollout-state.js';
import { SavedState } from '../../../../src/train/train-state.js';
import { run, Scratch, smallJob, smallOptions } from './ppo-fixture.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

const open: GuardOptions = { maxKl: null, minEntropyShare: 0, minLengthShare: 0 };

/** A job that runs away: no KL penalty, a rate far too high. */
const runaway = (scratch: Scratch, guards: Partial<GuardOptions>, changes: Partial<PpoJob> = {}): PpoJob => {
  const job = smallJob(scratch, changes);
  const place = {
    ...job.place,
    checkpoints: { directory: scratch.path('checkpoints'), everySteps: 1, keep: 1 },
  };
  const options = {
    ...smallOptions,
    iterations: 60,
    learningRate: 5e-3,
    kl: { type: 'fixed', coefficient: 0 } as const,
    guards: { ...open, ...guards },
  };
  return { ...job, options, place };
};

function stopOf(events: readonly TrainEvent[]): StoppedEvent {
  const last = events.at(-1)!;
  assert.equal(last.type, 'stopped');
  return last as StoppedEvent;
}

/** Checkpoints named by the events, the newest last. */
const saved = (events: readonly TrainEvent[]) =>
  events.flatMap((event) => (event.type === 'checkpoint' ? [event] : []));

const cases: readonly [string, Partial<GuardOptions>, Partial<PpoJob>, RegExp][] = [
  ['a KL over the ceiling', { maxKl: 1 }, {}, /KL .* over the ceiling of 1/],
  ['a collapse of entropy', { minEntropyShare: 0.5 }, {}, /Entropy has collapsed/],
  [
    'a collapse of length',
    { minLengthShare: 0.6 },
    // Every token costs, so the policy learns to stop at once.
    { reward: functionReward(({ response }) => -response.length) },
    /Responses have collapsed/,
  ],
];

for (const [what, guards, changes, message] of cases) {
  test(`${what} stops the run and leaves the last good checkpoint`, async () => {
    using scratch = new Scratch();
    const events = await run(runtime, runaway(scratch, guards, changes));
    const stop = stopOf(events);
    assert.equal(stop.reason, 'guard');
    assert.match(stop.message, message);
    const newest = saved(events).at(-1)!;
    assert.equal(stop.checkpoint, newest.path);
    assert.ok(newest.step < stop.step || stop.step === 0, 'the weights that failed were not written');
    assert.ok(existsSync(newest.path));
    assert.ok(!existsSync(scratch.path('output')), 'a stopped run has no result');
  });
}

test('a reward that is not a number stops the run before the weights are touched', async () => {
  using scratch = new Scratch();
  let asked = 0;
  const reward = functionReward(() => (++asked > 40 ? Number.NaN : 1));
  const job = runaway(scratch, {}, { reward });
  const events = await run(runtime, job);
  const stop = stopOf(events);
  assert.equal(stop.reason, 'guard');
  assert.match(stop.message, /rewardMean is NaN/);
  assert.equal(stop.step, 2);
  assert.equal(saved(events).at(-1)!.step, 1);
});

test('a run aborted in the middle of a rollout keeps what was drawn and ends as an undisturbed one', async () => {
  using scratch = new Scratch();
  const controller = new AbortController();
  const job = smallJob(scratch, { options: { ...smallOptions, rolloutRows: 4 }, samples: 1 });
  const place = {
    ...job.place,
    checkpoints: { directory: scratch.path('checkpoints'), everySteps: 100, keep: 2 },
  };
  // Samples are decoded before an update. The rollout that follows gives the event loop a turn before each group of rows: one turn passes.
  const decode: PpoJob['decode'] = () => {
    setImmediate(() => setImmediate(() => controller.abort()));
    return '';
  };
  const events = await run(runtime, { ...job, place, decode }, controller.signal);
  const stop = stopOf(events);
  assert.equal(stop.reason, 'aborted');
  assert.equal(stop.step, 1);
  using state = new SavedState(stop.checkpoint!);
  const drawn = readRollout(state);
  assert.equal(drawn.episodes.length, 4);
  assert.equal(drawn.scores, null);

  const resumed = await run(runtime, { ...job, place });
  assert.equal(resumed.at(-1)!.type, 'finished');
  const weights = () => readFileSync(join(job.place.output, 'model.safetensors'));
  const continued = weights();
  await run(runtime, job);
  assert.ok(continued.equals(weights()), 'the weights differ');
});

test('a checkpoint of another configuration or reward is not resumed', async () => {
  using scratch = new Scratch();
  const job = smallJob(scratch);
  const place = {
    ...job.place,
    checkpoints: { directory: scratch.path('checkpoints'), everySteps: 1, keep: 2 },
  };
  await run(runtime, { ...job, place });
  const again = await run(runtime, { ...job, place });
  assert.deepEqual(
    again.map(({ type }) => type),
    ['finished'],
  );
  await assert.rejects(run(runtime, { ...job, place, rewardId: 'another' }), { code: 'run_mismatch' });
  await assert.rejects(run(runtime, { ...job, place, options: { ...job.options, clip: 0.1 } }), {
    code: 'run_mismatch',
  });
});
