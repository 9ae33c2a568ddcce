import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { AppError } from '../../../../src/core/errors.js';
import { Rng } from '../../../../src/core/rng.js';
import { tokenId } from '../../../../src/core/units.js';
import type {
  Engine,
  GenerateRequest,
  Generation,
  TokenEvent,
} from '../../../../src/models/engine/engine.js';
import { RemoteEngine } from '../../../../src/models/engine/remote-engine.js';
import { sharedPath, skipWithoutShared as skip } from '../../../shared.js';
import { engineOptions, greedy, referenceOf, sourceOf, tinyEngine } from '../checkpoints.js';

const request = (prompt: readonly number[], change: Partial<GenerateRequest> = {}): GenerateRequest => ({
  prompt: prompt.map(tokenId),
  maxTokens: 12,
  sampling: greedy,
  stopIds: new Set(),
  logprobs: null,
  promptLogprobs: false,
  sequences: 1,
  ...change,
});
const never = new AbortController().signal;
const randomPrompt = (rng: Rng, length: number) => Array.from({ length }, () => rng.below(96));

async function tokensOf(generation: Generation, sequence = 0): Promise<number[]> {
  const ids: number[] = [];
  for await (const event of generation) {
    if (event.type === 'token' && event.sequence === sequence) ids.push(event.id);
  }
  return ids;
}
const run = (engine: Engine, ask: GenerateRequest) => tokensOf(engine.generate(ask, never));
const failsWith = (code: string) => (error: AppError) => error.code === code;
async function until(what: () => boolean): Promise<void> {
  for (let wait = 0; !what(); wait++) {
    assert.ok(wait < 2_000, 'waited 10 s in vain');
    await sleep(5);
  }
}

for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2']) {
  test(`${architecture}: greedy tokens equal the reference, and a crowd changes nobody's tokens`, {
    skip,
  }, async () => {
    await using engine = await RemoteEngine.open(architecture, tinyEngine(architecture));
    const reference = referenceOf(architecture);
    const prompt = reference.ids('logits/greedy_prompt')[0] as number[];
    assert.deepEqual(await run(engine, request(prompt)), reference.ids('logits/greedy_new')[0]);
    const rng = new Rng(1);
    const asks = Array.from({ length: 12 }, (_, index) =>
      request([...prompt.slice(0, rng.below(9)), ...randomPrompt(rng, 1 + rng.below(20))], {
        sampling: { ...greedy, temperature: index % 2, seed: BigInt(index), topP: 0.9 },
      }),
    );
    const alone: number[][] = [];
    await using single = await RemoteEngine.open(
      architecture,
      tinyEngine(architecture, { slots: 1, prefillChunk: 64 }),
    );
    for (const ask of asks) alone.push(await run(single, ask));
    assert.deepEqual(await Promise.all(asks.map((ask) => run(engine, ask))), alone);
    assert.equal(engine.stats().slotsBusy, 0);
  });
}

test('a prompt taken from the prefix cache goes on with the same tokens', { skip }, async () => {
  await using engine = await RemoteEngine.open('qwen3', tinyEngine('qwen3'));
  const ask = request(randomPrompt(new Rng(2), 30));
  const cached: number[] = [];
  const texts: number[][] = [];
  for (let i = 0; i < 3; i++) {
    const ids: number[] = [];
    for await (const event of engine.generate(ask, never)) {
      if (event.type === 'prompt') cached.push(event.cachedTokens);
      if (event.type === 'token') ids.push(event.id);
    }
    texts.push(ids);
  }
  assert.deepEqual(cached, [0, 28, 28]);
  assert.deepEqual(texts[1], texts[0]);
  assert.deepEqual(texts[2], texts[0]);
});

test('log-probabilities are the same to the last bit alone and in a crowd, cached or not, however the prompt is cut', {
  skip,
}, async () => {
  const events = async (engine: Engine, ask: GenerateRequest) => {
    const tokens: TokenEvent[] = [];
    for await (const event of engine.generate(ask, never)) if (event.type === 'token') tokens.push(event);
    return tokens;
  };
  const asks = Array.from({ length: 8 }, (_, index) =>
    request(randomPrompt(new Rng(index % 3), 5 + index), { logprobs: 3 }),
  );
  await using whole = await RemoteEngine.open('qwen3', tinyEngine('qwen3', { slots: 1, prefillChunk: 64 }));
  const alone: TokenEvent[][] = [];
  for (const ask of asks) alone.push(await events(whole, ask));
  for (const prefillChunk of [1, 3, 8]) {
    await using engine = await RemoteEngine.open('qwen3', tinyEngine('qwen3', { prefillChunk }));
    assert.deepEqual(await Promise.all(asks.map((ask) => events(engine, ask))), alone);
  }
});

test('log-probabilities of a prompt are those of the reference logits', { skip }, async () => {
  await using engine = await RemoteEngine.open('qwen3', tinyEngine('qwen3'));
  const reference = referenceOf('qwen3');
  const prompt = reference.ids('logits/input_ids')[0] as number[];
  const logits = reference.floats('logits/logits');
  const events: TokenEvent[] = [];
  const ask = request(prompt, { maxTokens: 0, promptLogprobs: true, logprobs: 2 });
  for await (const event of engine.generate(ask, never)) events.push(event);
  const scored = events[0]?.type === 'prompt' ? (events[0].logprobs ?? []) : [];
  assert.equal(scored.length, prompt.length);
  assert.equal(scored[0], null);
  for (let position = 1; position < prompt.length; position++) {
    const row = logits.slice((position - 1) * 96, position * 96);
    const normaliser = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
    const expected = (row[prompt[position] as number] as number) - normaliser;
    assert.ok(Math.abs((scored[position]?.logprob ?? 0) - expected) < 1e-4);
    assert.equal(scored[position]?.top[0]?.id, row.indexOf(Math.max(...row)));
  }
});

test('a slow reader holds up itself alone, and misses nothing', { skip }, async () => {
  await using engine = await RemoteEngine.open('qwen3', tinyEngine('qwen3', { laneBuffer: 3 }));
  const slow = engine.generate(request([1, 2, 3], { maxTokens: 40 }), never);
  const others = await Promise.all([4, 5, 6, 7, 8].map((id) => run(engine, request([id]))));
  for (const text of others) assert.equal(text.length, 12);
  const { steps, slotsBusy } = engine.stats();
  assert.equal(slotsBusy, 1);
  await sleep(50);
  assert.equal(engine.stats().steps, steps, 'a paused lane burns no steps');
  const text = await tokensOf(slow);
  await using other = await RemoteEngine.open('qwen3', tinyEngine('qwen3'));
  assert.deepEqual(text, await run(other, request([1, 2, 3], { maxTokens: 40 })));
});

test('an abort ends waiting and decoding requests with request_cancelled, and their slots are free', {
  skip,
}, async () => {
  // A buffer of one token keeps the requests that have a slot in it.
  await using engine = await RemoteEngine.open('qwen3', tinyEngine('qwen3', { slots: 2, laneBuffer: 1 }));
  const aborts = Array.from({ length: 5 }, () => new AbortController());
  const lanes = aborts.map(({ signal }, index) =>
    engine.generate(request([index + 1, 9], { maxTokens: 50 }), signal),
  );
  await until(() => engine.stats().slotsBusy === 2 && engine.stats().requestsWaiting === 3);
  for (const abort of aborts) abort.abort();
  for (const lane of lanes) await assert.rejects(tokensOf(lane), failsWith('request_cancelled'));
  await until(() => engine.stats().slotsBusy === 0);
  assert.equal(engine.stats().requestsWaiting + engine.stats().requestsRunning, 0);
  assert.equal((await run(engine, request([3]))).length, 12);
});

test('leaving the loop early frees the slot', { skip }, async () => {
  await using engine = await RemoteEngine.open('qwen3', tinyEngine('qwen3', { laneBuffer: 4 }));
  for await (const event of engine.generate(request([1], { maxTokens: 60 }), never)) {
    if (event.type === 'token') break;
  }
  await until(() => engine.stats().slotsBusy === 0 && engine.stats().requestsRunning === 0);
});

test('a full queue is refused with a time to come back, and takes requests again when it has drained', {
  skip,
}, async () => {
  const limits = { slots: 1, maxQueuedRequests: 2, laneBuffer: 1 };
  await using engine = await RemoteEngine.open('qwen3', tinyEngine('qwen3', limits));
  const lanes = [1, 2, 3].map((id) => engine.generate(request([id]), never));
  assert.throws(
    () => engine.generate(request([4]), never),
    (error: AppError) => error.code === 'queue_full' && (error.retryAfterSeconds ?? 0) >= 1,
  );
  await Promise.all(lanes.map((lane) => tokensOf(lane)));
  assert.equal((await run(engine, request([4]))).length, 12);
});

test('queued prompt tokens are bounded too', { skip }, async () => {
  await using engine = await RemoteEngine.open(
    'llama',
    tinyEngine('qwen3', { slots: 1, maxQueuedPromptTokens: 50, laneBuffer: 1 }),
  );
  const first = engine.generate(request([1]), never);
  await until(() => engine.stats().slotsBusy === 1);
  const second = engine.generate(request(randomPrompt(new Rng(1), 45)), never);
  assert.throws(() => engine.generate(request(randomPrompt(new Rng(2), 10)), never), failsWith('queue_full'));
  await Promise.all([tokensOf(first), tokensOf(second)]);
});

test('a request too long for the context is refused with both numbers', { skip }, async () => {
  await using engine = await RemoteEngine.open('qwen3', tinyEngine('qwen3', { contextLength: 4096 }));
  assert.equal(engine.options.contextLength, 64, "cut to the model's own");
  assert.throws(
    () => engine.generate(request(randomPrompt(new Rng(1), 60), { maxTokens: 5 }), never),
    (error: AppError) =>
      error.code === 'context_length_exceeded' &&
      error.message.includes('64') &&
      error.message.includes('65'),
  );
  assert.equal((await run(engine, request(randomPrompt(new Rng(1), 60), { maxTokens: 4 }))).length, 4);
});

test('when the thread dies its requests end with engine_failed, and so does every later one', {
  skip,
}, async () => {
  const thread = new Worker(new URL('../../../../src/models/engine/engine-worker.js', import.meta.url), {
    workerData: tinyEngine('qwen3', { laneBuffer: 1 }),
  });
  const engine = await RemoteEngine.over(thread, 'llama', engineOptions);
  const lane = engine.generate(request([1], { maxTokens: 60 }), never);
  await until(() => engine.stats().slotsBusy === 1);
  await thread.terminate();
  await assert.rejects(tokensOf(lane), failsWith('engine_failed'));
  assert.equal(engine.failure?.code, 'engine_failed');
  assert.throws(() => engine.generate(request([1]), never), failsWith('engine_failed'));
  assert.equal(engine.stats().slotsBusy, 0);
});

test('a checkpoint that cannot be opened is an error of open, with its code', { skip }, async () => {
  const data = tinyEngine('qwen3');
  await assert.rejects(
    RemoteEngine.open('gone', { ...data, source: sourceOf(sharedPath('reference', 'nothing'), 'x') }),
    failsWith('checkpoint_invalid'),
  );
});

test('disposing ends what runs with shutting_down, and the thread is gone', { skip }, async () => {
  const thread = new Worker(new URL('../../../../src/models/engine/engine-worker.js', import.meta.url), {
    workerData: tinyEngine('qwen3', { laneBuffer: 1 }),
  });
  const engine = await RemoteEngine.over(thread, 'llama', engineOptions);
  const lane = engine.generate(request([1], { maxTokens: 60 }), never);
  const outcome = assert.rejects(tokensOf(lane), failsWith('shutting_down'));
  const gone = once(thread, 'exit');
  await engine[Symbol.asyncDispose]();
  await outcome;
  assert.deepEqual(await gone, [0]);
});

test('1,000 short requests leave the memory flat', { skip }, async () => {
  await using engine = await RemoteEngine.open('qwen3', tinyEngine('qwen3'));
  const burst = async (count: number, seed: number) => {
    const rng = new Rng(seed);
    for (let done = 0; done < count; done += 20) {
      const asks = Array.from({ length: 20 }, () =>
        request(randomPrompt(rng, 1 + rng.below(30)), { maxTokens: 6 }),
      );
      await Promise.all(asks.map((ask) => run(engine, ask)));
    }
    return process.memoryUsage().rss / 2 ** 20;
  };
  const before = await burst(1_000, 1);
  const after = await burst(1_000, 2);
  assert.ok(after - before < 24, `from ${before.toFixed(0)} to ${after.toFixed(0)} MiB`);
  assert.equal(engine.stats().slotsBusy, 0);
});
