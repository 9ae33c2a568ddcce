import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AppError } from '../../../../src/core/errors.js';
import { type TokenId, tokenId } from '../../../../src/core/units.js';
import { RemoteEngine } from '../../../../src/models/engine/remote-engine.js';
import { RemoteScorer } from '../../../../src/models/engine/remote-scorer.js';
import { skipWithoutShared as skip } from '../../../shared.js';
import { referenceOf, rewardCheckpoint, sourceOf, tinyEngine } from '../checkpoints.js';

const options = { contextLength: 64, maxQueuedRequests: 16, maxQueuedTokens: 1024 };
const open = (architecture: string) =>
  RemoteScorer.open(architecture, {
    source: sourceOf(rewardCheckpoint(architecture, 0.25), `${architecture}-reward`),
    runtime: { provider: 'cpu', threads: 1 },
    options,
  });
const never = new AbortController().signal;

/** The reference's sequences without their padding. */
function sequencesOf(architecture: string): TokenId[][] {
  const reference = referenceOf(architecture);
  const mask = reference.ids('rm/attention_mask');
  return reference
    .ids('rm/input_ids')
    .map((ids, row) => ids.filter((_, column) => mask[row]?.[column] === 1).map(tokenId));
}

for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2']) {
  test(`${architecture}: scores equal the reference, batched or alone, and the last token's value is the score`, {
    skip,
  }, async () => {
    await using scorer = await open(architecture);
    const expected = referenceOf(architecture).floats('rm/scores');
    const sequences = sequencesOf(architecture);
    const together = await scorer.score(sequences, 'last', never);
    const apart = await Promise.all(sequences.map((each) => scorer.score([each], 'all', never)));
    for (const [row, score] of expected.entries()) {
      assert.ok(Math.abs((together[row]?.[0] as number) - score) < 1e-4, `${together[row]} want ${score}`);
      const values = apart[row]?.[0] as number[];
      assert.equal(values.length, sequences[row]?.length);
      assert.ok(Math.abs((values.at(-1) as number) - score) < 1e-4);
    }
    assert.equal(scorer.ready.mean, 0.25);
  });
}

test('a full queue, a long sequence, an abort and an end are told apart by code', { skip }, async () => {
  const scorer = await open('qwen3');
  const sequence = (length: number) => Array.from({ length }, (_, index) => tokenId(index % 96));
  const many = Array.from({ length: 16 }, () => sequence(60));
  const failsWith = (code: string) => (error: AppError) => error.code === code;
  const first = scorer.score(many, 'last', never);
  await assert.rejects(scorer.score([sequence(60)], 'last', never), failsWith('queue_full'));
  await first;
  await assert.rejects(scorer.score([sequence(65)], 'last', never), failsWith('context_length_exceeded'));
  const abort = new AbortController();
  const cancelled = scorer.score(many, 'last', abort.signal);
  abort.abort();
  await assert.rejects(cancelled, failsWith('request_cancelled'));
  await scorer[Symbol.asyncDispose]();
  await assert.rejects(scorer.score([sequence(3)], 'last', never), failsWith('shutting_down'));
});

test('a reward model is no engine and a language model no scorer', { skip }, async () => {
  const wrong = (error: AppError) => error.code === 'wrong_model_kind';
  const source = sourceOf(rewardCheckpoint('qwen3', 0), 'qwen3-reward');
  await assert.rejects(RemoteEngine.open('reward', { ...tinyEngine('qwen3'), source }), wrong);
  const data = {
    source: tinyEngine('qwen3').source,
    runtime: { provider: 'cpu', threads: 1 } as const,
    options,
  };
  await assert.rejects(RemoteScorer.open('language', data), wrong);
});
