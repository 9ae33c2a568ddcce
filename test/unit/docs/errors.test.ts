import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorCatalog } from '../../../src/core/errors.js';

test('docs/errors.md lists every error code with its kind and meaning, and no other', () => {
  const documented = readFileSync('docs/errors.md', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| `'));
  const rows = Object.entries(errorCatalog).map(
    ([code, { kind, meaning }]) => `| \`${code}\` | ${kind} | ${meaning} |`,
  );
  assert.deepEqual(documented, rows, 'run `npm run docs` and commit docs/errors.md');
});
