import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../src/core/rng.js';
import { rewardReport, wilsonInterval } from '../../../src/train/reward-report.js';

const near = (found: number, expected: number, tolerance = 1e-4) =>
  assert.ok(Math.abs(found - expected) < tolerance, `${found} is not ${expected}`);

test("Wilson's interval: published values at 0, small and large counts", () => {
  const cases = [
    [0, 10, 0, 0.2775],
    [10, 10, 0.7225, 1],
    [5, 10, 0.2366, 0.7634],
    [81, 263, 0.2553, 0.3662],
  ] as const;
  for (const [successes, count, low, high] of cases) {
    const interval = wilsonInterval(successes, count);
    near(interval.low, low);
    near(interval.high, high);
  }
});

test('equal scores count half, and the loss is ln 2 where nothing is told apart', () => {
  const report = rewardReport([0, 0, 0, 0]);
  assert.equal(report.accuracy, 0.5);
  near(report.loss, Math.LN2, 1e-12);
});

test('preferences drawn from the model itself are calibrated, sharpened scores are not', () => {
  const rng = new Rng(1);
  const margins = Array.from({ length: 20_000 }, () => {
    const margin = Math.abs(2 * rng.normal());
    return rng.uniform() < 1 / (1 + Math.exp(-margin)) ? margin : -margin;
  });
  assert.ok(rewardReport(margins).calibrationError < 0.02);
  assert.ok(rewardReport(margins.map((margin) => 3 * margin)).calibrationError > 0.08);
});

test('every pair stands in one row of the reliability table and one bar of the histogram', () => {
  const report = rewardReport([-3, -0.1, 0, 0.2, 50]);
  for (const rows of [report.reliability, report.margins])
    assert.equal(
      rows.reduce((sum, { pairs }) => sum + pairs, 0),
      5,
    );
});
