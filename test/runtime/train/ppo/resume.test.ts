import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { TrainEvent } from '../../../../src/train/events.js';
import { Scratch } from './ppo-fixture.js';

const child = fileURLToPath(new URL('./resumed-job.js', import.meta.url));

/** A job in a process of its own; events come as messages. */
function start(directory: string): ChildProcess {
  return fork(child, [directory], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    serialization: 'advanced',
  });
}

/** Until the process ends, or until it is killed at an event. */
async function follow(job: ChildProcess, killAt: (event: TrainEvent) => boolean): Promise<TrainEvent[]> {
  const events: TrainEvent[] = [];
  job.on('message', (event: TrainEvent) => {
    events.push(event);
    if (killAt(event)) job.kill('SIGKILL');
  });
  await once(job, 'close');
  return events;
}

const resultOf = (directory: string): string =>
  createHash('sha256')
    .update(readFileSync(join(directory, 'output', 'model.safetensors')))
    .digest('hex');

const stepsOf = (events: readonly TrainEvent[]) => events.filter((event) => event.type === 'step');

test('a run that SIGKILL ends twice goes on to the weights of an undisturbed one, bit for bit', async () => {
  using whole = new Scratch();
  using killed = new Scratch();
  const undisturbed = await follow(start(whole.directory), () => false);
  assert.equal(undisturbed.at(-1)!.type, 'finished');

  // Once after an update whose checkpoint is not yet written, once right after a checkpoint with its scored rollout.
  const first = await follow(start(killed.directory), (event) => event.type === 'step' && event.step === 3);
  assert.notEqual(first.at(-1)!.type, 'finished');
  const second = await follow(
    start(killed.directory),
    (event) => event.type === 'checkpoint' && event.step === 4,
  );
  assert.notEqual(second.at(-1)!.type, 'finished');
  const third = await follow(start(killed.directory), () => false);
  assert.equal(third.at(-1)!.type, 'finished');

  assert.equal(stepsOf(second)[0]!.step, 3, 'the step after the last checkpoint is done again');
  assert.equal(stepsOf(third)[0]!.step, 5);
  const losses = (events: readonly TrainEvent[]) =>
    new Map(stepsOf(events).map(({ step, loss }) => [step, loss]));
  const expected = losses(undisturbed);
  for (const [step, loss] of losses([...first, ...second, ...third])) assert.equal(loss, expected.get(step));
  assert.equal(resultOf(killed.directory), resultOf(whole.directory));
});
