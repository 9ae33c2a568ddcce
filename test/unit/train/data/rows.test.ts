import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { AppError } from '../../../../src/core/errors.js';
import { type DatasetKind, parseRow } from '../../../../src/train/data/rows.js';

const refusal = (kind: DatasetKind, row: unknown): AppError => {
  try {
    parseRow(kind, typeof row === 'string' ? row : JSON.stringify(row), 7);
  } catch (error) {
    assert.ok(error instanceof AppError);
    return error;
  }
  throw new Error(`taken: ${JSON.stringify(row)}`);
};

test('what is wrong with a row is named by line and field', () => {
  const cases: [DatasetKind, unknown, string][] = [
    ['prompts', '{', 'line 7'],
    ['prompts', [], 'line 7'],
    ['prompts', {}, 'line 7: prompt'],
    ['prompts', { prompt: 'a', messages: [] }, 'line 7: messages'],
    ['prompts', { messages: [{ role: 'user' }] }, 'line 7: messages.0.content'],
    ['prompts', { prompt: 'a', metadata: 3 }, 'line 7: metadata'],
    ['demonstrations', { prompt: 'a', completion: ' ' }, 'line 7: completion'],
    ['demonstrations', { prompt: 'a', completion: 'b', labeler: 4 }, 'line 7: labeler'],
    ['comparisons', { prompt: 'a', completions: ['x'], ranks: [1] }, 'line 7: completions'],
    ['comparisons', { prompt: 'a', completions: ['x', ''], ranks: [1, 2] }, 'line 7: completions.1'],
    ['comparisons', { prompt: 'a', completions: ['x', 'y'], ranks: [1] }, 'line 7: ranks'],
    ['comparisons', { prompt: 'a', completions: ['x', 'y'], ranks: [1, 0] }, 'line 7: ranks.1'],
    ['comparisons', { prompt: 'a', completions: ['x', 'y'], ranks: [2, 2] }, 'line 7: ranks'],
    ['comparisons', { prompt: 'a', chosen: 'x', rejected: 'x' }, 'line 7: rejected'],
    ['comparisons', { chosen: 'x', rejected: 'y' }, 'line 7: prompt'],
    ['pretraining', { text: '' }, 'line 7: text'],
  ];
  for (const [kind, row, param] of cases) {
    const error = refusal(kind, row);
    assert.equal(error.code, 'invalid_row');
    assert.equal(error.param, param, error.message);
  }
});

test('ties stay in a comparison that also ranks', () => {
  const row = parseRow(
    'comparisons',
    JSON.stringify({ prompt: 'a', completions: ['x', 'y', 'z'], ranks: [1, 2, 2] }),
    1,
  );
  assert.deepEqual(row.ranks, [1, 2, 2]);
});

test('a dialogue pair is cut after the last assistant turn that both share', () => {
  const start = '\n\nHuman: hi\n\nAssistant: hello\n\nHuman: and?\n\nAssistant:';
  const row = parseRow(
    'comparisons',
    JSON.stringify({ chosen: `${start} Sure.`, rejected: `${start} Sorry, no.` }),
    1,
  );
  assert.deepEqual(row.context, { type: 'text', prompt: start });
  assert.deepEqual(row.completions, [' Sure.', ' Sorry, no.']);
});

const dialogues = '../shared/data/hh_rlhf/harmless_base_test.dev.jsonl';
test('every pair of HH-RLHF gives a prompt that ends in an assistant turn', {
  skip: existsSync(dialogues) || process.env.CI === 'true' ? false : `${dialogues} is not here`,
}, () => {
  const lines = readFileSync(dialogues, 'utf8').trim().split('\n');
  let taken = 0;
  for (const [i, line] of lines.entries()) {
    const source = JSON.parse(line) as { chosen: string; rejected: string };
    if ([source.chosen, source.rejected].some((text) => text.trim().endsWith('Assistant:'))) continue;
    const row = parseRow('comparisons', line, i + 1);
    assert.ok(row.context.type === 'text' && row.context.prompt.endsWith('\n\nAssistant:'));
    assert.equal(row.context.prompt + row.completions[0], source.chosen);
    assert.equal(row.context.prompt + row.completions[1], source.rejected);
    taken++;
  }
  assert.ok(taken > 1_200, `${taken} of ${lines.length}`);
});
