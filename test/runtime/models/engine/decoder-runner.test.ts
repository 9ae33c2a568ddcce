import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../../src/core/rng.js';
import { slotIndex, tokenId } from '../../../../src/core/units.js';
import { DecoderRunner, type StepShapes } from '../../../../src/models/engine/decoder-runner.js';
import type { DecodeRow } from '../../../../src/models/engine/model-runner.js';
import { openCheckpoint } from '../../../../src/models/engine/open-checkpoint.js';
import { skipWithoutShared as skip } from '../../../shared.js';
import { tinyEngine } from '../checkpoints.js';

const slots = 6;
const contextLength = 48;

function openRunner(architecture: string, stepShapes: StepShapes) {
  const { source, runtime } = tinyEngine(architecture);
  const opened = openCheckpoint(source, runtime, contextLength);
  const options = { slots, contextLength, prefillChunk: 16, stepShapes };
  const runner = new DecoderRunner(opened, opened.decoder.config.vocabulary, options, opened.version);
  return { runner, [Symbol.dispose]: () => opened.runtime[Symbol.dispose]() };
}

/** Prompts of unlike length, steps of changing sets of slots, a copied prefix and a swap: logits of all of it in order. */
function play(architecture: string, stepShapes: StepShapes): number[][] {
  using opened = openRunner(architecture, stepShapes);
  const { runner } = opened;
  const rng = new Rng(11);
  const token = () => tokenId(rng.below(96));
  const logits: number[][] = [];
  const keep = (rows: readonly Float32Array[]) => {
    for (const row of rows) logits.push([...row]);
  };
  const held = Array.from({ length: slots }, (_, at) => 2 + 3 * at);
  for (const [at, length] of held.entries()) {
    const tokens = Array.from({ length }, token);
    keep(runner.prefill({ slot: slotIndex(at), tokens, from: 0, logits: 'last' }));
  }
  const step = (...active: number[]) => {
    const rows: DecodeRow[] = active.map((at) => ({
      slot: slotIndex(at),
      token: token(),
      position: held[at]!++,
    }));
    keep(runner.decode(rows));
  };
  step(0);
  step(1, 4);
  step(2, 3, 5);
  runner.copyPrefix(slotIndex(4), slotIndex(1), 9);
  held[1] = 9;
  step(1, 5);
  runner.swap(slotIndex(0), slotIndex(5), Math.max(held[0]!, held[5]!));
  [held[0], held[5]] = [held[5]!, held[0]!];
  for (let at = 0; at < 3; at++) step(0, 1, 2, 3, 4, 5);
  step(5);
  return logits;
}

for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2'])
  test(`${architecture}: steps of fixed shapes, as CUDA graphs need them, give the logits of steps over ranges`, {
    skip,
  }, () => {
    const expected = play(architecture, 'ranges');
    const actual = play(architecture, 'fixed');
    assert.equal(actual.length, slots + 1 + 2 + 3 + 2 + 18 + 1);
    const scale = Math.max(...expected.flat().map(Math.abs));
    for (const [row, values] of actual.entries())
      for (const [at, value] of values.entries())
        assert.ok(Math.abs(value - expected[row]![at]!) < 2e-5 * scale, `row ${row}, logit ${at}`);
  });

test('slots that a step ran over without being asked to go on where they were', { skip }, () => {
  using alone = openRunner('llama', 'ranges');
  using crowded = openRunner('llama', 'fixed');
  const tokens = [5, 9, 2, 40].map(tokenId);
  const after = (runner: DecoderRunner, between: () => void): Float32Array => {
    runner.prefill({ slot: slotIndex(1), tokens, from: 0, logits: 'none' });
    between();
    return runner.decode([{ slot: slotIndex(1), token: tokenId(7), position: 4 }])[0]!.slice();
  };
  const expected = after(alone.runner, () => {});
  const actual = after(crowded.runner, () => {
    crowded.runner.prefill({ slot: slotIndex(3), tokens, from: 0, logits: 'none' });
    crowded.runner.decode([{ slot: slotIndex(3), token: tokenId(1), position: 4 }]);
  });
  for (const [at, value] of actual.entries()) assert.ok(Math.abs(value - expected[at]!) < 1e-4);
});
