import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Drain } from '../../../src/server/limits.js';

test('a drain with nothing in flight is over at once', async () => {
  assert.equal(await new Drain().drain(60_000), 0);
});

test('a drain waits for what has entered and lets nothing else in', async () => {
  const drain = new Drain();
  const [first, second] = [drain.enter(), drain.enter()];
  const drained = drain.drain(60_000);
  assert.throws(() => drain.enter(), { code: 'shutting_down' });
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  assert.equal(
    await Promise.race([drained, new Promise((resolve) => setImmediate(resolve, 'waits'))]),
    'waits',
  );
  second[Symbol.dispose]();
  assert.equal(await drained, 0);
});

test('a drain ends at its deadline with the number that is cut off', async () => {
  const drain = new Drain();
  using _open = drain.enter();
  assert.equal(await drain.drain(5), 1);
});
