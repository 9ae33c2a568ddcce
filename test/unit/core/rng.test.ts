import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../src/core/rng.js';

test('the generator is PCG32: the published vector of seed 42, stream 54', () => {
  const rng = new Rng(42, 54);
  const drawn = Array.from({ length: 6 }, () => rng.uint32());
  assert.deepEqual(drawn, [0xa15c02b7, 0x7b47f409, 0xba1d3330, 0x83d2f293, 0xbfa4784b, 0xcbed606e]);
});

test('a restored generator goes on where it stopped', () => {
  const rng = new Rng(0xdeadbeefcafen, 7);
  for (let i = 0; i < 100; i++) rng.uniform();
  const copy = Rng.restore(JSON.parse(JSON.stringify(rng.state)));
  for (let i = 0; i < 100; i++) assert.equal(copy.uniform(), rng.uniform());
});

test('streams of one seed differ and uniforms fill [0, 1)', () => {
  const one = new Rng(1, 0);
  const two = new Rng(1, 1);
  let equal = 0;
  let sum = 0;
  for (let i = 0; i < 10_000; i++) {
    const draw = one.uniform();
    assert.ok(draw >= 0 && draw < 1);
    sum += draw;
    if (draw === two.uniform()) equal++;
  }
  assert.equal(equal, 0);
  assert.ok(Math.abs(sum / 10_000 - 0.5) < 0.01);
});

test('below is within its bound and reaches every value', () => {
  const rng = new Rng(3);
  const seen = new Set(Array.from({ length: 1_000 }, () => rng.below(7)));
  assert.deepEqual([...seen].sort(), [0, 1, 2, 3, 4, 5, 6]);
});
