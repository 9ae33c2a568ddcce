import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AppError } from '../../../../src/core/errors.js';
import { Admission } from '../../../../src/models/engine/admission.js';

const limits = { running: 2, waiting: 3, waitingTokens: 100 };
const refusal = (work: () => void): AppError => {
  try {
    work();
  } catch (error) {
    return error as AppError;
  }
  throw new Error('nothing was refused');
};

test('choices of one request count one each, and those that left make room', () => {
  const admission = new Admission(limits, () => 0);
  admission.enter(4, 10);
  assert.equal(refusal(() => admission.enter(2, 10)).code, 'queue_full');
  admission.leave(1);
  admission.enter(2, 10);
});

test('waiting prompt tokens are bounded, but one long prompt alone is taken', () => {
  const admission = new Admission(limits, () => 0);
  admission.enter(1, 500);
  assert.equal(refusal(() => admission.enter(1, 1)).code, 'queue_full');
  admission.runTokens(500, 'done');
  admission.enter(1, 60);
  assert.equal(refusal(() => admission.enter(1, 60)).code, 'queue_full');
  admission.runTokens(60, 'dropped');
  admission.enter(1, 60);
});

test('the time to come back follows the measured rates', () => {
  let now = 0;
  const admission = new Admission({ running: 0, waiting: 1_000, waitingTokens: 1_000 }, () => now);
  // 100 tokens a second for a minute.
  for (; now < 60; now++) {
    admission.enter(1, 100);
    admission.runTokens(100, 'done');
    admission.leave(1);
  }
  admission.enter(1, 900);
  const seconds = refusal(() => admission.enter(1, 900)).retryAfterSeconds as number;
  assert.ok(seconds >= 8 && seconds <= 10, `${seconds} s for 800 tokens too many`);
});
