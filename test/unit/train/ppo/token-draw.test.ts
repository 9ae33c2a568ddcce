import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../../src/core/rng.js';
import { drawToken } from '../../../../src/train/ppo/token-draw.js';

const softmax = (logits: readonly number[], temperature: number): number[] => {
  const weights = logits.map((z) => Math.exp(z / temperature));
  const total = weights.reduce((sum, w) => sum + w, 0);
  return weights.map((w) => w / total);
};

test('tokens come as often as their probability at the temperature says, with its logarithm', () => {
  const logits = [0.5, -1, 2, 0, 1.25];
  for (const temperature of [0.7, 1, 2]) {
    const expected = softmax(logits, temperature);
    const entropy = -expected.reduce((sum, p) => sum + p * Math.log(p), 0);
    const rng = new Rng(3);
    const counts = new Array<number>(logits.length).fill(0);
    const draws = 20_000;
    for (let i = 0; i < draws; i++) {
      const drawn = drawToken(Float32Array.from(logits), temperature, rng)!;
      counts[drawn.id]!++;
      assert.ok(Math.abs(drawn.logprob - Math.log(expected[drawn.id]!)) < 1e-12);
      assert.ok(Math.abs(drawn.entropy - entropy) < 1e-12);
    }
    for (const [id, p] of expected.entries()) {
      const deviation = Math.sqrt((p * (1 - p)) / draws);
      assert.ok(Math.abs(counts[id]! / draws - p) < 5 * deviation, `token ${id} at ${temperature}`);
    }
  }
});

test('a vocabulary of several blocks is reached to its ends, and what has no mass never comes', () => {
  const row = new Float32Array(1000).fill(-Infinity);
  const alive = [0, 255, 256, 700, 999];
  for (const id of alive) row[id] = 0;
  const rng = new Rng(1);
  const seen = new Set(Array.from({ length: 300 }, () => drawToken(row, 1, rng)!.id));
  assert.deepEqual(
    [...seen].sort((a, b) => a - b),
    alive,
  );
});

test('a row with a NaN, or with nothing finite, is no distribution', () => {
  const rng = new Rng(1);
  assert.equal(drawToken(Float32Array.of(1, Number.NaN, 2), 1, rng), null);
  assert.equal(drawToken(new Float32Array(4).fill(-Infinity), 1, rng), null);
});
