import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSchedule } from '../../../../src/train/optim/schedule.js';

test('cosine to 0 equals the learning rates that summarize_from_feedback_details logged', () => {
  const cosine = createSchedule({ type: 'cosine', warmUpSteps: 0, finalFraction: 0 });
  const logged = [2.9999964793339335e-6, 2.99998591735226e-6, 2.999968314104561e-6];
  logged.forEach((want, i) => {
    assert.ok(Math.abs(3e-6 * cosine.factor(i + 1, 1_450) - want) < 1e-20);
  });
});

test('cosine to a fraction ends at that fraction and warm-up rises in equal steps', () => {
  const schedule = createSchedule({ type: 'cosine', warmUpSteps: 4, finalFraction: 0.1 });
  assert.deepEqual(
    [0, 1, 2, 3].map((step) => schedule.factor(step, 100)),
    [0.25, 0.5, 0.75, 1],
  );
  assert.equal(schedule.factor(4, 100), 1);
  assert.ok(Math.abs(schedule.factor(100, 100) - 0.1) < 1e-12);
  assert.ok(Math.abs(schedule.factor(52, 100) - 0.55) < 1e-12);
});

test('linear falls evenly and constant stays', () => {
  const linear = createSchedule({ type: 'linear', warmUpSteps: 0, finalFraction: 0 });
  assert.deepEqual(
    [0, 5, 10, 12].map((step) => linear.factor(step, 10)),
    [1, 0.5, 0, 0],
  );
  assert.equal(createSchedule({ type: 'constant', warmUpSteps: 2 }).factor(1_000, 10), 1);
});
