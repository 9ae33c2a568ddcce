import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, type ErrorCode, errorCatalog } from '../../../src/core/errors.js';
import { errorBody, retryAfterSeconds, statusOf, toProblem } from '../../../src/server/problem.js';

test('every code of the catalog has a status of its kind and all four keys', () => {
  for (const code of Object.keys(errorCatalog) as ErrorCode[]) {
    const error = new AppError(code, 'A message');
    assert.ok(statusOf(error) >= 400 && statusOf(error) < 600, code);
    assert.deepEqual(Object.keys(errorBody(error).error), ['message', 'type', 'param', 'code']);
  }
});

test('a bug tells its caller nothing of what was thrown', () => {
  const { error } = errorBody(toProblem(new TypeError('secret of another request')));
  assert.equal(error.code, 'internal_error');
  assert.doesNotMatch(error.message, /secret/);
});

test('what may be tried again says when, and nothing else does', () => {
  assert.equal(retryAfterSeconds(new AppError('queue_full', 'Full', { retryAfterSeconds: 2.2 })), 3);
  assert.equal(retryAfterSeconds(new AppError('shutting_down', 'Going')), 1);
  assert.equal(retryAfterSeconds(new AppError('invalid_value', 'No')), null);
});
