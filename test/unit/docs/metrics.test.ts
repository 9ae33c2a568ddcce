import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { metricRows } from '../../metrics-table.js';

test('docs/metrics.md lists every metric of our own with its type and labels, and no other', () => {
  const documented = readFileSync('docs/metrics.md', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| `'));
  assert.deepEqual(documented, metricRows(), 'run `npm run docs` and commit docs/metrics.md');
});
