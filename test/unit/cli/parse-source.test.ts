import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { parseSource } from '../../../src/cli/models-command.js';

const failsWith = (code: string) => (error: unknown) => (error as { code?: string }).code === code;

test('a path is sent out absolute, whether it is there or not', () => {
  assert.deepEqual(parseSource('./nowhere', undefined), { type: 'directory', path: resolve('nowhere') });
  assert.deepEqual(parseSource('/nowhere/at/all', undefined), { type: 'directory', path: '/nowhere/at/all' });
  assert.deepEqual(parseSource('src', undefined), { type: 'directory', path: resolve('src') });
});

test('organisation/name is a model of a hub, unless a directory of that name is there', () => {
  assert.deepEqual(parseSource('acme/tiny-1.5B', undefined), { type: 'hub', repository: 'acme/tiny-1.5B' });
  assert.deepEqual(parseSource('acme/tiny', 'v2'), { type: 'hub', repository: 'acme/tiny', revision: 'v2' });
  assert.deepEqual(parseSource('src/cli', undefined), { type: 'directory', path: resolve('src/cli') });
});

test('what can be neither is refused, and so is a revision of a directory', () => {
  for (const source of ['tiny', 'a/b/c', 'a b/c', ''])
    assert.throws(
      () => parseSource(source === '' ? 'no where' : source, undefined),
      failsWith('invalid_value'),
    );
  assert.throws(() => parseSource('./src', 'main'), failsWith('invalid_value'));
});
