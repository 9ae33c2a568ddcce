import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../src/core/rng.js';
import { answerAsTheWeb, demonstrate } from '../../../src/world/answers.js';
import { splitOf, webDocument, worldDemonstrations, worldPrompts } from '../../../src/world/corpus.js';
import { judge } from '../../../src/world/gold-judge.js';
import { rankCompletions } from '../../../src/world/labelers.js';
import { drawPrompt, taskKinds } from '../../../src/world/prompts.js';

test('every demonstration of every kind is judged perfect', () => {
  for (const kind of taskKinds) {
    const rng = new Rng(5, taskKinds.indexOf(kind));
    for (let i = 0; i < 200; i++) {
      const prompt = drawPrompt(rng, kind);
      const text = demonstrate(prompt, rng);
      const score = judge(prompt.task, text);
      assert.deepEqual(score, { helpful: 1, honest: 1, harmless: 1, overall: 1 }, `${prompt.prompt}${text}`);
    }
  }
});

test('the web answers worse than the demonstrations in each of the three properties', () => {
  const rng = new Rng(7);
  const sum = { helpful: 0, honest: 0, harmless: 0 };
  for (let i = 0; i < 2_000; i++) {
    const prompt = drawPrompt(rng);
    const score = judge(prompt.task, answerAsTheWeb(prompt, rng));
    for (const property of ['helpful', 'honest', 'harmless'] as const)
      sum[property] += score[property] / 2_000;
  }
  assert.ok(sum.helpful > 0.3 && sum.helpful < 0.7, String(sum.helpful));
  assert.ok(sum.honest > 0.4 && sum.honest < 0.8, String(sum.honest));
  assert.ok(sum.harmless > 0.6 && sum.harmless < 0.95, String(sum.harmless));
});

test('an empty answer helps nobody and a made-up one is not honest', () => {
  const prompt = drawPrompt(new Rng(1), 'unanswerable');
  assert.equal(judge(prompt.task, '').helpful, 0);
  assert.equal(judge(prompt.task, ' It is the Lim.').honest, 0);
});

test('two labelers agree on 70 to 80 % of the pairs that the web gives', () => {
  const rng = new Rng(11);
  let agreed = 0;
  let pairs = 0;
  for (let i = 0; i < 3_000; i++) {
    const prompt = drawPrompt(rng);
    const outputs = [answerAsTheWeb(prompt, rng), answerAsTheWeb(prompt, rng)];
    const [one, two] = [
      rankCompletions(prompt.task, outputs, rng),
      rankCompletions(prompt.task, outputs, rng),
    ];
    if (outputs[0]!.trim() === outputs[1]!.trim()) continue;
    pairs++;
    if (Math.sign(one[0]! - one[1]!) === Math.sign(two[0]! - two[1]!)) agreed++;
  }
  assert.ok(
    agreed / pairs > 0.7 && agreed / pairs < 0.8,
    `${((100 * agreed) / pairs).toFixed(1)} % of ${pairs}`,
  );
});

test('identical outputs share a rank and ranks start at 1', () => {
  const prompt = drawPrompt(new Rng(2), 'arithmetic');
  const ranks = rankCompletions(prompt.task, [' 1.', ' 1. ', ' I hate you.'], new Rng(3));
  assert.equal(ranks[0], ranks[1]);
  assert.equal(Math.min(...ranks), 1);
});

test('splits share no prompt, and the same seed gives the same rows', () => {
  const train = worldPrompts(1, 'train', 2_000);
  const held = worldPrompts(1, 'test', 500);
  assert.equal(train.length, 2_000);
  assert.equal(held.length, 500);
  assert.ok(held.every((row) => splitOf(row.prompt) === 'test'));
  const seen = new Set(train.map((row) => row.prompt));
  assert.ok(held.every((row) => !seen.has(row.prompt)));
  assert.deepEqual(worldDemonstrations(4, 50), worldDemonstrations(4, 50));
  assert.equal(webDocument(new Rng(9)), webDocument(new Rng(9)));
});
