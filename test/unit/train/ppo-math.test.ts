import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  adaptiveKl,
  explainedVariance,
  fixedKl,
  generalizedAdvantages,
  klEstimates,
  klOfBestOf,
  tokenRewards,
  whiten,
} from '../../../src/train/ppo-math.js';

const floats = (...values: number[]) => Float32Array.from(values);
const ones = (n: number) => new Uint8Array(n).fill(1);
const near = (actual: ArrayLike<number>, expected: readonly number[], tolerance = 2e-6) => {
  assert.equal(actual.length, expected.length);
  expected.forEach((want, i) => {
    assert.ok(Math.abs(actual[i]! - want) <= tolerance, `[${i}] ${actual[i]} is not ${want}`);
  });
};

test('advantages and returns of three tokens equal the hand calculation', () => {
  const { advantages, returns } = generalizedAdvantages(
    floats(-0.1, 0.2, 1),
    floats(0.5, 0.4, 0.3),
    ones(3),
    {
      gamma: 1,
      lambda: 0.95,
    },
  );
  near(advantages, [0.52675, 0.765, 0.7]);
  near(returns, [1.02675, 1.165, 1]);
  near(
    whiten([advantages], [ones(3)], { variance: 'population', mean: 'shift' })[0]!,
    [-1.364081, 1.005243, 0.358838],
  );
  near(
    whiten([advantages], [ones(3)], { variance: 'sample', mean: 'shift' })[0]!,
    [-1.113768, 0.820778, 0.29299],
  );
});

test("what stands at masked tokens does not reach the returns (verl's case)", () => {
  const mask = Uint8Array.from([0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0]);
  const rewards = floats(0, 0, 0.1, 0.1, 0.1, 0, 0, 0.1, 1, 0, 0);
  for (const noise of [0, -1e3, 1e3]) {
    const values = floats(noise, noise, 4, 5, 6, noise, noise, 7, 9, 0, 0);
    const { advantages, returns } = generalizedAdvantages(rewards, values, mask, { gamma: 1, lambda: 0.95 });
    near(
      returns.filter((_, t) => mask[t] === 1),
      [2.422187, 2.18125, 1.875, 1.5, 1],
    );
    const white = whiten([advantages], [mask], { variance: 'sample', mean: 'shift' })[0]!;
    near(
      white.filter((_, t) => mask[t] === 1),
      [1.137201, 0.637928, 0.112377, -0.440834, -1.446672],
    );
    assert.ok(white.every((value, t) => mask[t] === 1 || value === 0));
  }
});

test('per-token KL rewards with the score at EOS + 1 (summarize_from_feedback_details)', () => {
  const rewards = tokenRewards(floats(-1, -2, -0.5, 0, 0), floats(-1.1, -1.8, -0.7, 0, 0), 2, {
    klCoefficient: 0.05,
    scoreAt: 3,
  });
  near(rewards, [-0.005, 0.01, -0.01, 2, 0]);
  const { advantages, returns } = generalizedAdvantages(
    rewards,
    floats(0.1, 0.2, 0.3, 0.4, 99),
    Uint8Array.from([1, 1, 1, 1, 0]),
    {
      gamma: 1,
      lambda: 0.95,
    },
  );
  near(advantages, [1.652525, 1.6395, 1.61, 1.6, 0]);
  near(returns, [1.752525, 1.8395, 1.91, 2, 0]);
  const policyMask = Uint8Array.from([1, 1, 1, 0, 0]);
  near(
    whiten([advantages], [policyMask], { variance: 'population', mean: 'shift' })[0]!,
    [1.040845, 0.308694, -1.349539, 0, 0],
    5e-6,
  );
  near(
    whiten([advantages], [policyMask], { variance: 'sample', mean: 'shift' })[0]!,
    [0.849851, 0.252049, -1.1019, 0, 0],
    5e-6,
  );
});

test('the published KL case of lm-human-preferences', () => {
  const rewards = tokenRewards(floats(-0.3315, -0.0426, 0.6351), floats(0, 0, 0), 0.4, {
    klCoefficient: 0.15,
    scoreAt: 2,
  });
  near(rewards, [0.049725, 0.00639, 0.304735]);
  near(
    generalizedAdvantages(rewards, floats(0, 0, 0), ones(3), { gamma: 1, lambda: 0.95 }).advantages,
    [0.330819, 0.295888, 0.304735],
  );
});

test('whitening that keeps the mean, with both variances', () => {
  const x = floats(1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2);
  near(
    whiten([x], [ones(9)], { variance: 'population', mean: 'keep' })[0]!.slice(0, 5),
    [0.050807, 0.438105, 0.825403, 1.212702, 1.6],
    5e-6,
  );
  near(
    whiten([x], [ones(9)], { variance: 'sample', mean: 'keep' })[0]!.slice(0, 5),
    [0.139407, 0.504555, 0.869703, 1.234852, 1.6],
    5e-6,
  );
});

test('k1, k2 and k3 of one log-ratio', () => {
  for (const [d, k1, k2, k3] of [
    [0.1, 0.1, 0.005, 0.004837],
    [-0.2, -0.2, 0.02, 0.021403],
    [0.5, 0.5, 0.125, 0.106531],
  ] as const) {
    const estimate = klEstimates(d);
    near([estimate.k1, estimate.k2, estimate.k3], [k1, k2, k3]);
  }
});

test('the adaptive controller moves by the clipped error, the fixed one does not', () => {
  const controller = adaptiveKl({ coefficient: 0.15, target: 6, horizon: 10_000 });
  near(
    [12, 3, 6.3].map((kl) => controller.update(kl, 512).coefficient),
    [0.151536, 0.148464, 0.150384],
  );
  assert.equal(fixedKl(0.02).update(100, 512).coefficient, 0.02);
});

test('KL of best-of-n', () => {
  near([2, 4, 8, 16, 64].map(klOfBestOf), [0.1931, 0.6363, 1.2044, 1.8351, 3.1745], 5e-5);
});

test('explained variance is 1 for the returns themselves and 0 for their mean', () => {
  const returns = [floats(1, 2, 3), floats(4, 9, 0)];
  const masks = [ones(3), Uint8Array.from([1, 0, 0])];
  assert.equal(explainedVariance(returns, returns, masks), 1);
  near([explainedVariance([floats(2.5, 2.5, 2.5), floats(2.5, 7, 7)], returns, masks)], [0]);
});
