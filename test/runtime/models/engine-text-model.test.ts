import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { AppError } from '../../../src/core/errors.js';
import { type TokenId, tokenId } from '../../../src/core/units.js';
import { loadTextModel } from '../../../src/models/load.js';
import type { CompletionAsk, CompletionEvent, TextModel } from '../../../src/models/text-model.js';
import { sharedPath, skipWithoutShared as skip } from '../../shared.js';
import { engineOptions, greedy, smollm2Cache, smollm2Record } from './checkpoints.js';

interface Reference {
  readonly chat: readonly {
    readonly prompt_ids: TokenId[];
    readonly greedy_ids: number[];
    readonly greedy_text: string;
  }[];
  readonly loglikelihood: readonly {
    readonly context_ids: TokenId[];
    readonly continuation_ids: TokenId[];
    readonly token_logprobs: number[];
  }[];
}

let model: TextModel;
let reference: Reference;
before(async () => {
  if (skip !== false) return;
  const file = sharedPath('models', 'smollm2-135m-instruct', 'reference.json');
  reference = JSON.parse(readFileSync(file, 'utf8')) as Reference;
  model = await loadTextModel(smollm2Record('none'), {
    runtime: { provider: 'cpu' },
    engine: { ...engineOptions, contextLength: 512, prefillChunk: 64 },
    cacheDirectory: smollm2Cache(),
  });
});
after(async () => {
  if (skip === false) await model[Symbol.asyncDispose]();
});

const never = new AbortController().signal;
const ask = (prompt: readonly TokenId[], change: Partial<CompletionAsk> = {}): CompletionAsk => ({
  prompt,
  maxTokens: 24,
  sampling: greedy,
  n: 1,
  bestOf: 1,
  stop: [],
  includeStop: false,
  ignoreEndOfText: false,
  logprobs: null,
  echo: false,
  ...change,
});
const story = () => model.tokenizer.encode('Once upon a time, in a small village by the sea,', 'as_text');

type Finish = Extract<CompletionEvent, { type: 'finish' }>;
type Delta = Extract<CompletionEvent, { type: 'delta' }>;
async function complete(what: CompletionAsk) {
  const events: CompletionEvent[] = [];
  for await (const event of await model.complete(what, never)) events.push(event);
  const deltas = (choice: number) =>
    events.filter((event): event is Delta => event.type === 'delta' && event.choice === choice);
  return {
    events,
    text: (choice = 0) =>
      deltas(choice)
        .map(({ text }) => text)
        .join(''),
    tokens: (choice = 0) => deltas(choice).flatMap(({ tokens }) => tokens),
    finish: (choice = 0) =>
      events.find((event): event is Finish => event.type === 'finish' && event.choice === choice) as Finish,
  };
}

test('SmolLM2 answers with the text and token ids of the reference, and ends at its end of turn', {
  skip,
}, async () => {
  const { prompt_ids, greedy_ids, greedy_text } = reference.chat[0] as Reference['chat'][number];
  const result = await complete(ask(prompt_ids));
  assert.equal(result.text(), greedy_text);
  assert.deepEqual(
    result.tokens().map(({ id }) => id),
    greedy_ids.slice(0, -1),
  );
  const { reason, stopString, completionTokens } = result.finish();
  assert.deepEqual([reason, stopString, completionTokens], ['stop', null, greedy_ids.length - 1]);
});

test('echo without generation gives every prompt token its log-probability, the first none', {
  skip,
}, async () => {
  for (const { context_ids, continuation_ids, token_logprobs } of reference.loglikelihood) {
    const prompt = [...context_ids, ...continuation_ids];
    const result = await complete(ask(prompt, { maxTokens: 0, echo: true, logprobs: 1 }));
    const tokens = result.tokens();
    assert.equal(tokens.length, prompt.length);
    assert.equal(tokens[0]?.logprob, null);
    for (const [index, expected] of token_logprobs.entries()) {
      const got = tokens[context_ids.length + index]?.logprob as number;
      assert.ok(Math.abs(got - expected) < 1e-3, `${got} want ${expected}`);
    }
    assert.equal(result.text(), model.tokenizer.decode(prompt));
    for (const { text, offset } of tokens) assert.ok(result.text().startsWith(text, offset));
  }
});

test('a stop string across token borders ends the choice before it, wherever it lies', { skip }, async () => {
  const whole = await complete(ask(story(), { maxTokens: 20 }));
  for (let from = 5; from < 32; from += 13) {
    const stop = whole.text().slice(from, from + 6);
    const at = whole.text().indexOf(stop);
    const cut = await complete(ask(story(), { maxTokens: 20, stop: [stop] }));
    assert.equal(cut.text(), whole.text().slice(0, at));
    assert.deepEqual([cut.finish().reason, cut.finish().stopString], ['stop', stop]);
    const before = whole.tokens().filter(({ text, offset }) => offset + text.length < at + stop.length);
    assert.equal(cut.finish().completionTokens, before.length + 1, 'up to the token that completed it');
    const kept = await complete(ask(story(), { maxTokens: 20, stop: [stop], includeStop: true }));
    assert.equal(kept.text(), whole.text().slice(0, at + stop.length));
  }
  assert.equal((await model.stats()).slotsBusy, 0);
});

test('one seed gives one text, alone and under load; choices of one request differ', { skip }, async () => {
  const seeded = (seed: number) =>
    complete(
      ask(story(), {
        maxTokens: 12,
        sampling: { ...greedy, temperature: 0.9, topP: 0.95, seed: BigInt(seed) },
      }),
    );
  const alone = (await seeded(7)).text();
  const crowd = await Promise.all([7, 1, 2, 3, 4, 5, 7].map(async (seed) => (await seeded(seed)).text()));
  assert.equal(crowd[0], alone);
  assert.equal(crowd.at(-1), alone);
  assert.equal(new Set(crowd).size, 6);
  const three = await complete(
    ask(story(), { n: 3, bestOf: 3, sampling: { ...greedy, temperature: 1, seed: 3n } }),
  );
  assert.equal(new Set([0, 1, 2].map((choice) => three.text(choice))).size, 3);
});

test('best_of returns the choices of highest mean log-probability, best first', { skip }, async () => {
  const sampling = { ...greedy, temperature: 1.2, seed: 5n };
  const all = await complete(ask(story(), { n: 5, bestOf: 5, maxTokens: 8, sampling, logprobs: 0 }));
  const mean = (choice: number) => {
    const tokens = all.tokens(choice);
    return tokens.reduce((sum, { logprob }) => sum + (logprob as number), 0) / tokens.length;
  };
  const ranked = [0, 1, 2, 3, 4].sort((a, b) => mean(b) - mean(a)).map((choice) => all.text(choice));
  const best = await complete(ask(story(), { n: 2, bestOf: 5, maxTokens: 8, sampling }));
  assert.deepEqual([best.text(0), best.text(1)], ranked.slice(0, 2));
  assert.equal(best.events.filter(({ type }) => type === 'finish').length, 2);
  assert.equal(best.tokens()[0]?.logprob, null, 'log-probabilities were not asked for');
});

test('a token outside the vocabulary is refused by field before anything starts', { skip }, async () => {
  const refused = (param: string) => (error: AppError) =>
    error.code === 'invalid_value' && error.param === param;
  await assert.rejects(model.complete(ask([tokenId(49_152)]), never), refused('prompt'));
  await assert.rejects(model.complete(ask([]), never), refused('prompt'));
  const logitBias = new Map([[tokenId(99_999), 1]]);
  await assert.rejects(
    model.complete(ask(story(), { sampling: { ...greedy, logitBias } }), never),
    refused('logit_bias'),
  );
  await assert.rejects(model.complete(ask(story(), { n: 2 }), never), refused('best_of'));
});

test('a completion that is aborted frees its slots while prefilling and while decoding', {
  skip,
}, async () => {
  for (const afterEvents of [0, 1, 4]) {
    const abort = new AbortController();
    const events = await model.complete(ask(story(), { maxTokens: 200, n: 3, bestOf: 3 }), abort.signal);
    let seen = 0;
    if (afterEvents === 0) abort.abort();
    await assert.rejects(
      async () => {
        for await (const _ of events) if (++seen === afterEvents) abort.abort();
      },
      (error: AppError) => error.code === 'request_cancelled',
    );
    assert.equal((await model.stats()).slotsBusy, 0);
  }
});
