import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ModelConfig } from '../../../src/models/transformer/model-config.js';
import { type DropoutDraw, dropoutFeeds } from '../../../src/train/dropout.js';
import { configOf } from '../../architectures.js';

const config: ModelConfig = { ...configOf('llama', {}), layers: 2, hidden: 256 };

const maskOf = (change: Partial<DropoutDraw> = {}, place = 0): Float32Array => {
  const draw = { rate: 0.2, seed: 1, step: 5, rows: [10, 11], time: 200, ...change };
  return dropoutFeeds(config, draw)[`dropout.${place}`]!.data as Float32Array;
};

const droppedShare = (mask: Float32Array): number => mask.filter((x) => x === 0).length / mask.length;

/** Share of elements that both drop: rate^2 where the two are independent. */
const bothDropped = (one: Float32Array, two: Float32Array): number =>
  one.filter((x, i) => x === 0 && two[i] === 0).length / one.length;

/** Four standard deviations of a share of n independent draws. */
const tolerance = (share: number, n: number): number => 4 * Math.sqrt((share * (1 - share)) / n);

test('a fifth is dropped and the rest divided by four fifths, so that the mean stays', () => {
  const mask = maskOf();
  assert.deepEqual(new Set(mask), new Set([0, Math.fround(1.25)]));
  assert.ok(Math.abs(droppedShare(mask) - 0.2) < tolerance(0.2, mask.length));
});

test('masks of other steps, seeds, places, rows and neighbouring elements are independent', () => {
  const mask = maskOf({ rows: [10] });
  const others = {
    step: maskOf({ rows: [10], step: 6 }),
    seed: maskOf({ rows: [10], seed: 2 }),
    place: maskOf({ rows: [10] }, 1),
    row: maskOf({ rows: [11] }),
    neighbour: mask.subarray(1),
    position: mask.subarray(config.hidden),
  };
  for (const [name, other] of Object.entries(others)) {
    const both = bothDropped(mask.subarray(0, other.length), other);
    assert.ok(Math.abs(both - 0.04) < tolerance(0.04, other.length), `${name}: ${both}`);
  }
});

test("a row's mask is its example's, wherever the row stands and however long the batch is", () => {
  const elements = 200 * config.hidden;
  const pair = maskOf();
  assert.deepEqual(maskOf({ rows: [11] }), pair.subarray(elements));
  assert.deepEqual(maskOf({ rows: [10], time: 50 }), pair.subarray(0, 50 * config.hidden));
});
