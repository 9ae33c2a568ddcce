import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tokenId } from '../../../../src/core/units.js';
import {
  experiencesOf,
  ruledScore,
  type ScoredEpisode,
  stateCount,
  whitenMinibatch,
} from '../../../../src/train/ppo/experience.js';
import { ppoPresets } from '../../../../src/train/ppo/ppo-presets.js';
import type { Episode } from '../../../../src/train/ppo/rollout.js';

const floats = (...values: number[]) => Float32Array.from(values);
const near = (found: ArrayLike<number>, expected: readonly number[], tolerance = 2e-6) =>
  assert.ok(
    found.length === expected.length &&
      expected.every((value, i) => Math.abs(value - found[i]!) <= tolerance),
    `${Array.from(found)} is not ${expected}`,
  );

const episode = (logprobs: Float32Array, isEnded: boolean): Episode => ({
  index: 0,
  prompt: [tokenId(1)],
  response: Array.from(logprobs, () => tokenId(2)),
  logprobs,
  entropy: 1,
  isEnded,
});

/** The N+ case of a response of at most 5 tokens whose third is the EOS; the critic's value behind it is 0.4. */
const ended = episode(floats(-1, -2, -0.5), true);
const nPlus: ScoredEpisode = {
  episode: ended,
  score: 2,
  referenceLogprobs: floats(-1.1, -1.8, -0.7),
  values: floats(0.1, 0.2, 0.3, 0.4),
};

test('summarize puts the score behind the EOS, and whitens over the response alone', () => {
  const options = { ...ppoPresets.summarize, responseTokens: 5 };
  assert.equal(stateCount(ended, options), 4);
  const [experience] = experiencesOf([nPlus], 0.05, options);
  near(experience!.returns, [1.752525, 1.8395, 1.91, 2]);
  near(experience!.advantages, [1.040845, 0.308694, -1.349539], 5e-6);
});

test('a response without room behind its EOS, or without an EOS, has its score on the last token', () => {
  const options = { ...ppoPresets.summarize, responseTokens: 3 };
  assert.equal(stateCount(ended, options), 3);
  assert.equal(stateCount(episode(floats(-1, -1), false), { ...options, responseTokens: 5 }), 2);
  assert.equal(stateCount(ended, { ...ppoPresets.instructgpt, responseTokens: 5 }), 3);
});

test('instructgpt: the score joins the last token, advantages of a batch have mean 0 and variance 1', () => {
  const options = { ...ppoPresets.instructgpt, lambda: 1 };
  const scored = [nPlus, { ...nPlus, score: -1 }].map((one) => ({ ...one, values: floats(0.1, 0.2, 0.3) }));
  const experiences = experiencesOf(scored, 0.05, options);
  // With lambda 1 returns are sums of rewards to go.
  near(experiences[0]!.returns, [-0.005 + 0.01 + 1.99, 0.01 + 1.99, 1.99]);
  const all = experiences.flatMap(({ advantages }) => [...advantages]);
  const mean = all.reduce((sum, x) => sum + x, 0) / all.length;
  const variance = all.reduce((sum, x) => sum + (x - mean) ** 2, 0) / all.length;
  near([mean, variance], [0, 1], 1e-6);
});

test('lmhp whitens rewards and keeps their mean, and leaves advantages to the minibatch', () => {
  const options = ppoPresets.lmhp;
  const scored = [1, 5].map((score) => ({ ...nPlus, score, values: floats(0, 0, 0) }));
  const experiences = experiencesOf(scored, 0, { ...options, lambda: 0 });
  // lambda 0 and values of 0: advantages are the whitened rewards [0, 0, 1, 0, 0, 5] of mean 1.
  const rewards = experiences.flatMap(({ advantages }) => [...advantages]);
  const deviation = Math.sqrt((4 * 1 + 0 + 16) / 6 + 1e-8);
  near(
    rewards,
    [0, 0, 1, 0, 0, 5].map((x) => (x - 1) / deviation + 1),
    1e-6,
  );
  const white = whitenMinibatch(experiences, options).flatMap(({ advantages }) => [...advantages]);
  near([white.reduce((sum, x) => sum + x, 0)], [0], 1e-5);
});

test('the rule for a missing EOS touches no response that has one', () => {
  const open = episode(floats(-1), false);
  assert.equal(ruledScore(3, open, { type: 'replace', score: -1 }), -1);
  assert.equal(ruledScore(3, open, { type: 'subtract', penalty: 1 }), 2);
  assert.equal(ruledScore(3, ended, { type: 'replace', score: -1 }), 3);
  assert.equal(ruledScore(3, ended, { type: 'subtract', penalty: 1 }), 3);
});
