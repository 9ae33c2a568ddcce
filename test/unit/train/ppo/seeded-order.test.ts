import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededOrder } from '../../../../src/train/ppo/seeded-order.js';

test('each pass holds every item once, in another order than the last', () => {
  const order = new SeededOrder(10, 4, 100);
  const passes = [0, 1, 2].map((pass) => order.take(10 * pass, 10));
  for (const pass of passes)
    assert.deepEqual(
      pass.toSorted((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    );
  assert.notDeepEqual(passes[0], passes[1]);
});

test('what stands at a place follows from the seed and the place alone', () => {
  const walked = new SeededOrder(7, 1, 0);
  const whole = walked.take(0, 50);
  const resumed = new SeededOrder(7, 1, 0);
  assert.deepEqual(resumed.take(33, 17), whole.slice(33));
  assert.deepEqual(walked.take(5, 4), whole.slice(5, 9));
  assert.notDeepEqual(new SeededOrder(7, 2, 0).take(0, 50), whole);
});
