import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../../src/core/rng.js';
import { tokenId } from '../../../../src/core/units.js';
import { ScoreCore, type ScoreRow } from '../../../../src/models/engine/score-core.js';

/** Scores a position by its token; remembers the shape of every batch. */
class SumRunner {
  readonly batches: { rows: number; time: number; tokens: number }[] = [];

  run(batch: readonly ScoreRow[]): number[][] {
    const time = Math.max(...batch.map(({ tokens }) => tokens.length));
    const tokens = batch.reduce((sum, row) => sum + row.tokens.length, 0);
    this.batches.push({ rows: batch.length, time, tokens });
    if (batch.some((row) => row.tokens.includes(tokenId(13)))) throw new Error('bad row');
    return batch.map((row) => (row.positions === 'all' ? [...row.tokens] : row.tokens.slice(-1)));
  }

  [Symbol.dispose](): void {}
}

const sequence = (length: number, last: number) =>
  Array.from({ length }, (_, at) => tokenId(at === length - 1 ? last : 1));

test('every sequence of every request comes back in its place, in batches within the budget', () => {
  const rng = new Rng(1);
  const runner = new SumRunner();
  const core = new ScoreCore(runner, 128);
  const expected = new Map<number, number[]>();
  for (let lane = 0; lane < 30; lane++) {
    const lasts = Array.from({ length: rng.below(9) }, () => 100 + rng.below(900));
    expected.set(lane, lasts);
    core.add(lane, {
      sequences: lasts.map((last) => sequence(1 + rng.below(lane === 7 ? 300 : 60), last)),
      positions: lane % 2 === 0 ? 'last' : 'all',
    });
  }
  const reports = [];
  do reports.push(...core.takeReports());
  while (core.step());
  assert.equal(reports.length, 30);
  for (const { lane, outcome } of reports) {
    assert.ok('outputs' in outcome);
    assert.deepEqual(
      outcome.outputs.map((values) => values.at(-1)),
      expected.get(lane),
    );
  }
  for (const { rows, time, tokens } of runner.batches) {
    assert.ok(rows === 1 || rows * time <= 128);
    assert.ok(tokens >= 0.75 * rows * time, 'at most a quarter is padding');
  }
  assert.ok(
    runner.batches.some(({ rows }) => rows > 4),
    'short sequences share a batch',
  );
});

test('the sequence that waited longest is in the next batch', () => {
  const runner = new SumRunner();
  const core = new ScoreCore(runner, 64);
  core.add(0, { sequences: [sequence(60, 5)], positions: 'last' });
  for (let lane = 1; lane < 50; lane++) core.add(lane, { sequences: [sequence(4, 5)], positions: 'last' });
  core.step();
  assert.deepEqual(
    core.takeReports().map(({ lane }) => lane),
    [0],
  );
});

test('a cancelled request is not computed, and a failing batch ends the requests in it alone', () => {
  const runner = new SumRunner();
  const core = new ScoreCore(runner, 64);
  core.add(0, { sequences: [sequence(50, 5)], positions: 'last' });
  core.add(1, { sequences: [sequence(50, 13)], positions: 'last' });
  core.add(2, { sequences: [sequence(50, 6)], positions: 'last' });
  core.cancel(0);
  while (core.step());
  const outcomes = new Map(core.takeReports().map(({ lane, outcome }) => [lane, outcome]));
  assert.equal((outcomes.get(0) as { error: { code: string } }).error.code, 'request_cancelled');
  assert.match((outcomes.get(1) as { error: { message: string } }).error.message, /bad row/);
  assert.deepEqual(outcomes.get(2), { outputs: [[6]] });
  assert.equal(runner.batches.length, 2);
});
