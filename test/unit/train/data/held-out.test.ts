import assert from 'node:assert/strict';
import { test } from 'node:test';
import { splitComparisons } from '../../../../src/train/data/held-out.js';
import { parseRow } from '../../../../src/train/data/rows.js';

const rows = Array.from({ length: 2000 }, (_, line) => ({
  line,
  row: parseRow(
    'comparisons',
    JSON.stringify({
      prompt: `prompt ${line % 400}`,
      completions: ['a', 'b'],
      ranks: [1, 2],
      labeler: `labeler ${line % 37}`,
      ...(line % 2 === 0 && { user: `user ${line % 90}` }),
    }),
    line,
  ),
}));
const shares = { prompts: 0.2, labelers: 0.25, seed: 3 };

test('no labeler who is held out trains, and no user or prompt is on both sides', () => {
  const { train, prompts, labelers } = splitComparisons(rows, shares);
  const of = (set: typeof train, key: 'labeler' | 'user') =>
    new Set(set.flatMap(({ row }) => row[key] ?? []));
  assert.ok([...of(labelers, 'labeler')].every((name) => !of(train, 'labeler').has(name)));
  assert.ok([...of(prompts, 'user')].every((name) => !of(train, 'user').has(name)));
  const anonymous = (set: typeof train) =>
    new Set(
      set.flatMap(({ row }) => (row.user === null && row.context.type === 'text' ? row.context.prompt : [])),
    );
  assert.ok([...anonymous(prompts)].every((prompt) => !anonymous(train).has(prompt)));
});

test('every row is in one set, the sets have about their shares, and a seed gives its split again', () => {
  const split = splitComparisons(rows, shares);
  assert.equal(split.train.length + split.prompts.length + split.labelers.length, rows.length);
  assert.ok(Math.abs(split.labelers.length / rows.length - 0.25) < 0.15);
  assert.ok(Math.abs(split.prompts.length / (rows.length - split.labelers.length) - 0.2) < 0.1);
  assert.deepEqual(splitComparisons(rows, shares), split);
  assert.notDeepEqual(splitComparisons(rows, { ...shares, seed: 4 }), split);
});
