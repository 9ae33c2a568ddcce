import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../../src/core/rng.js';
import { lengthGroupedBatches, microBatches } from '../../../../src/train/data/length-grouping.js';

const lengths = Array.from({ length: 1000 }, (_, i) => 1 + ((i * 7919) % 300));

const paddingShare = (batches: readonly (readonly number[])[]): number => {
  const padded = batches.reduce(
    (sum, batch) => sum + batch.length * Math.max(...batch.map((i) => lengths[i]!)),
    0,
  );
  return 1 - lengths.reduce((sum, length) => sum + length, 0) / padded;
};

test('every example is in one batch, whatever the last batch has', () => {
  const batches = lengthGroupedBatches(lengths, 16, new Rng(1));
  assert.deepEqual(
    batches.flat().sort((one, two) => one - two),
    [...lengths.keys()],
  );
  assert.equal(batches.filter((batch) => batch.length === 16).length, 62);
});

test('a seed gives its batches again, another seed gives others', () => {
  const draw = (seed: number) => lengthGroupedBatches(lengths, 16, new Rng(seed));
  assert.deepEqual(draw(1), draw(1));
  assert.notDeepEqual(draw(1), draw(2));
});

test('uniform lengths up to 300 leave under 5 % padding, where random batches leave over 40 %', () => {
  assert.ok(paddingShare(lengthGroupedBatches(lengths, 16, new Rng(1))) < 0.05);
  const random = Array.from({ length: 62 }, (_, b) => Array.from({ length: 16 }, (_, i) => b * 16 + i));
  assert.ok(paddingShare(random) > 0.4);
});

test('a micro-batch keeps to its budget with padding, and an item over the budget stands alone', () => {
  const items = [10, 50, 20, 400, 30, 5];
  const pieces = microBatches(items, (time) => ({ rows: 1, time }), 100);
  assert.deepEqual(pieces, [[400], [50, 30], [20, 10, 5]]);
});

test('items of several rows count all of them', () => {
  const items = [
    { rows: 4, time: 10 },
    { rows: 4, time: 10 },
    { rows: 2, time: 10 },
  ];
  assert.deepEqual(
    microBatches(items, (item) => item, 60).map((piece) => piece.length),
    [1, 2],
  );
});
