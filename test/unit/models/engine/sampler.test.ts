import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../../src/core/rng.js';
import { type TokenId, tokenId } from '../../../../src/core/units.js';
import type { SamplingOptions } from '../../../../src/models/engine/engine.js';
import type { TokenHistory } from '../../../../src/models/engine/logit-adjustments.js';
import { greedySampling, Sampler } from '../../../../src/models/engine/sampler.js';
import { exponential } from '../../../../src/models/engine/softmax.js';
import { TopCandidates } from '../../../../src/models/engine/top-candidates.js';

const plain: SamplingOptions = { ...greedySampling, temperature: 1 };
const nothing: TokenHistory = { prompt: new Set(), counts: new Map(), generated: 0, stopIds: new Set() };
const randomRow = (rng: Rng, size: number) => Float32Array.from({ length: size }, () => rng.normal() * 3);

/** The distribution that SamplingOptions describes, by full sorts and Math.exp. */
function exactDistribution(row: Float32Array, options: SamplingOptions, history: TokenHistory): number[] {
  const logits = Array.from(row);
  const seen = new Set([...history.prompt, ...history.counts.keys()]);
  for (const id of seen) {
    const x = logits[id] as number;
    logits[id] = Math.fround(x > 0 ? x / options.repetitionPenalty : x * options.repetitionPenalty);
  }
  for (const [id, count] of history.counts) {
    logits[id] = Math.fround(
      (logits[id] as number) - options.presencePenalty - count * options.frequencyPenalty,
    );
  }
  for (const [id, bias] of options.logitBias) logits[id] = Math.fround((logits[id] as number) + bias);
  if (history.generated < options.minTokens) for (const id of history.stopIds) logits[id] = -Infinity;
  const largest = Math.max(...logits);
  if (options.temperature === 0) {
    return logits.map((_, id) => (id === logits.indexOf(largest) ? 1 : 0));
  }
  let ranked = logits
    .map((x, id) => ({ id, x, weight: Math.exp((x - largest) / options.temperature) }))
    .sort((a, b) => b.x - a.x || a.id - b.id);
  if (options.topK > 0) ranked = ranked.slice(0, options.topK);
  if (options.topP < 1) {
    const total = ranked.reduce((sum, { weight }) => sum + weight, 0);
    let mass = 0;
    ranked = ranked.filter(({ weight }) => {
      const keep = mass < options.topP * total;
      mass += weight;
      return keep;
    });
    if (ranked.length === 0) throw new Error('empty');
  }
  if (options.minP > 0) ranked = ranked.filter(({ weight }) => weight >= options.minP * (1 - 1e-12));
  const total = ranked.reduce((sum, { weight }) => sum + weight, 0);
  const result = logits.map(() => 0);
  for (const { id, weight } of ranked) result[id] = weight / total;
  return result;
}

function randomOptions(rng: Rng): SamplingOptions {
  const maybe = (value: number, off: number) => (rng.below(2) === 0 ? value : off);
  return {
    temperature: maybe(0.2 + 2 * rng.uniform(), rng.below(2)),
    topP: maybe(rng.uniform() * 0.98 + 0.01, 1),
    topK: maybe(1 + rng.below(50), 0),
    minP: maybe(rng.uniform() * 0.3, 0),
    presencePenalty: maybe(rng.normal(), 0),
    frequencyPenalty: maybe(rng.normal(), 0),
    repetitionPenalty: maybe(0.5 + rng.uniform(), 1),
    logitBias: new Map(maybe(1, 0) ? [[tokenId(rng.below(100)), 5 * rng.normal()]] : []),
    seed: 0n,
    minTokens: maybe(5, 0),
  };
}

test('every combination of options draws what full sorts and Math.exp would', () => {
  for (let round = 0; round < 3_000; round++) {
    const rng = new Rng(round, 1);
    const size = 100 + rng.below(700);
    const row = randomRow(rng, size);
    // Ties, as quantised heads give.
    if (round % 3 === 0) for (let i = 0; i < size; i++) row[i] = Math.round((row[i] as number) * 2) / 2;
    const options = randomOptions(rng);
    const history: TokenHistory = {
      prompt: new Set(Array.from({ length: 5 }, () => tokenId(rng.below(100)))),
      counts: new Map(Array.from({ length: 5 }, () => [tokenId(rng.below(100)), 1 + rng.below(4)])),
      generated: rng.below(10),
      stopIds: new Set([tokenId(row.indexOf(Math.max(...row)))]),
    };
    const expected = exactDistribution(row, options, history);
    const before = row.slice();
    const sampler = new Sampler(size);
    for (let draw = 0; draw < 5; draw++) {
      const { id } = sampler.draw(row, options, history, new Rng(round, draw + 10), null);
      assert.deepEqual(row, before, 'the row is given back as it was');
      if (options.temperature === 0) {
        assert.equal(expected[id], 1);
        continue;
      }
      let rest = new Rng(round, draw + 10).uniform();
      let wanted = 0;
      while (rest >= (expected[wanted] as number) && wanted < size - 1) rest -= expected[wanted++] as number;
      if (id === wanted) continue;
      // Only a uniform number within rounding of a border may fall on the other side of it.
      const gap = Math.min(Math.abs(rest), Math.abs((expected[wanted] as number) - rest));
      assert.ok(gap < 1e-9, `round ${round}: drew ${id}, want ${wanted}, ${JSON.stringify(options)}`);
    }
  }
});

const chiSquareCases: readonly [string, Partial<SamplingOptions>][] = [
  ['temperature 1', {}],
  ['temperature 0.7 and top_p 0.9', { temperature: 0.7, topP: 0.9 }],
  ['top_k 5', { topK: 5 }],
  ['min_p 0.1', { minP: 0.1 }],
  [
    'top_k 8, top_p 0.8, min_p 0.05 and a bias',
    { topK: 8, topP: 0.8, minP: 0.05, logitBias: new Map([[tokenId(3), 1.5]]) },
  ],
];
for (const [name, change] of chiSquareCases) {
  test(`40,000 draws at ${name} pass a chi-square test against the exact distribution`, () => {
    const row = randomRow(new Rng(5), 30);
    const options = { ...plain, ...change };
    const expected = exactDistribution(row, options, nothing);
    const counts = new Array<number>(30).fill(0);
    const sampler = new Sampler(30);
    const rng = new Rng(11);
    for (let draw = 0; draw < 40_000; draw++) {
      const { id } = sampler.draw(row, options, nothing, rng, null);
      counts[id] = (counts[id] as number) + 1;
    }
    let statistic = 0;
    let cells = 0;
    for (const [id, p] of expected.entries()) {
      if (p === 0) assert.equal(counts[id], 0);
      if (40_000 * p < 5) continue;
      statistic += ((counts[id] as number) - 40_000 * p) ** 2 / (40_000 * p);
      cells++;
    }
    // Wilson-Hilferty: the 99.9 % point of chi-square with cells - 1 degrees of freedom.
    const degrees = cells - 1;
    const limit = degrees * (1 - 2 / (9 * degrees) + 3.09 * Math.sqrt(2 / (9 * degrees))) ** 3;
    assert.ok(statistic < limit, `${statistic} over ${limit}`);
  });
}

test('a draw takes one uniform number, whatever the options', () => {
  const sampler = new Sampler(200);
  for (let round = 0; round < 100; round++) {
    const options = { ...randomOptions(new Rng(round)), temperature: 0.8 };
    const rng = new Rng(1);
    sampler.draw(randomRow(new Rng(round), 200), options, nothing, rng, 3);
    const twin = new Rng(1);
    twin.uniform();
    assert.deepEqual(rng.state, twin.state);
  }
});

test('log-probabilities are of the raw logits, the most likely first', () => {
  const row = Float32Array.from([1, 3, 2, 3]);
  const options = { ...plain, temperature: 0.1, logitBias: new Map([[tokenId(0), 100]]) };
  const { id, logprob, top } = new Sampler(4).draw(row, options, nothing, new Rng(0), 3);
  const normaliser = Math.log([1, 3, 2, 3].reduce((sum, x) => sum + Math.exp(x), 0));
  assert.equal(id, 0);
  assert.ok(Math.abs((logprob as number) - (1 - normaliser)) < 1e-12);
  assert.deepEqual(
    top.map((entry) => entry.id),
    [1, 3, 2],
  );
  assert.ok(Math.abs((top[2]?.logprob as number) - (2 - normaliser)) < 1e-12);
});

test('greedy takes the lowest id of a tie', () => {
  const row = Float32Array.from([0, 7, 7, 1, 7]);
  assert.equal(new Sampler(5).draw(row, { ...plain, temperature: 0 }, nothing, new Rng(0), null).id, 1);
});

test('logits that are no distribution are refused by name, at any temperature', () => {
  for (const temperature of [0, 1]) {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const row = Float32Array.from({ length: 50 }, (_, id) => (id === 37 ? bad : id));
      assert.throws(
        () => new Sampler(50).draw(row, { ...plain, temperature }, nothing, new Rng(0), null),
        (error: { code: string; message: string }) =>
          error.code === 'runtime_failed' && error.message.includes('token 37'),
      );
    }
  }
});

test('the k best of a row are those of a full sort', () => {
  const candidates = new TopCandidates();
  for (let round = 0; round < 500; round++) {
    const rng = new Rng(round);
    const row = Float32Array.from({ length: 1 + rng.below(200) }, () => rng.below(20));
    const k = rng.below(250);
    candidates.select(row, k);
    const sorted = Array.from(row, (_, id) => id).sort(
      (a, b) => (row[b] as number) - (row[a] as number) || a - b,
    );
    const got: TokenId[] = Array.from({ length: candidates.size }, (_, rank) => tokenId(candidates.id(rank)));
    assert.deepEqual(got, sorted.slice(0, k));
  }
});

test('exponential is within 1e-13 of Math.exp, and 0 far below', () => {
  const rng = new Rng(0);
  for (let i = 0; i < 100_000; i++) {
    const x = -rng.uniform() * 600;
    assert.ok(Math.abs(exponential(x) / Math.exp(x) - 1) < 1e-13, `exp(${x})`);
  }
  assert.equal(exponential(0), 1);
  assert.equal(exponential(-1e9), 0);
  assert.equal(exponential(Number.NEGATIVE_INFINITY), 0);
});
