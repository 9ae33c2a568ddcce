import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { inBatches, merged } from '../../../../src/server/streaming/batches.js';

async function* burst(...groups: readonly (readonly number[])[]) {
  for (const group of groups) {
    await turn();
    await turn();
    yield* group;
  }
}
const all = async <Item>(source: AsyncIterable<Item>): Promise<Item[]> => {
  const items: Item[] = [];
  for await (const item of source) items.push(item);
  return items;
};

test('items of one turn share a batch, later ones do not', async () => {
  assert.deepEqual(await all(inBatches(burst([1, 2, 3], [4], [5, 6]))), [[1, 2, 3], [4], [5, 6]]);
});

test('a batch is bounded however fast its source is', async () => {
  const sizes = (await all(inBatches(burst(Array.from({ length: 10 }, (_, i) => i)), 4))).map(
    ({ length }) => length,
  );
  assert.deepEqual(sizes, [4, 4, 2]);
});

test('what came before a failure is delivered, then the failure', async () => {
  async function* failing() {
    yield 1;
    throw new Error('broken');
  }
  const seen: number[][] = [];
  await assert.rejects(async () => {
    for await (const batch of inBatches(failing())) seen.push(batch);
  }, /broken/);
  assert.deepEqual(seen, [[1]]);
});

test('leaving a batch loop ends the source', async () => {
  let ended = false;
  async function* endless() {
    try {
      for (let i = 0; ; i++) {
        await turn();
        yield i;
      }
    } finally {
      ended = true;
    }
  }
  for await (const _ of inBatches(endless())) break;
  assert.ok(ended);
});

test('merged sources keep their own order and are told apart', async () => {
  const items = await all(merged([burst([1, 2], [3]), burst([10], [20, 30])]));
  assert.deepEqual(
    items.filter(([source]) => source === 0).map(([, item]) => item),
    [1, 2, 3],
  );
  assert.deepEqual(
    items.filter(([source]) => source === 1).map(([, item]) => item),
    [10, 20, 30],
  );
});

test('the failure of one source ends the merged stream', async () => {
  async function* failing(): AsyncGenerator<number> {
    yield 10;
    await turn();
    throw new Error('broken');
  }
  await assert.rejects(all(merged([burst([1]), failing(), burst([2])])), /broken/);
});
