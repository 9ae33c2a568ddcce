import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '../../../../src/core/errors.js';
import { Rng } from '../../../../src/core/rng.js';
import { type TokenId, tokenId } from '../../../../src/core/units.js';
import type { EngineOptions, GenerateRequest } from '../../../../src/models/engine/engine.js';
import { EngineCore, type LaneReport } from '../../../../src/models/engine/engine-core.js';
import { greedySampling } from '../../../../src/models/engine/sampler.js';
import { SyntheticRunner } from './synthetic-runner.js';

const options: EngineOptions = {
  slots: 4,
  contextLength: 256,
  prefillChunk: 16,
  maxQueuedRequests: 64,
  maxQueuedPromptTokens: 4096,
  laneBuffer: 1000,
};
const greedy = greedySampling;
const request = (prompt: readonly number[], change: Partial<GenerateRequest> = {}): GenerateRequest => ({
  prompt: prompt.map(tokenId),
  maxTokens: 10,
  sampling: greedy,
  stopIds: new Set(),
  logprobs: null,
  promptLogprobs: false,
  sequences: 1,
  ...change,
});

class Bench {
  readonly runner: SyntheticRunner;
  readonly core: EngineCore;
  readonly tokens = new Map<string, TokenId[]>();
  readonly ends = new Map<number, LaneReport['end']>();
  readonly cached = new Map<number, number>();
  steps = 0;

  constructor(change: Partial<EngineOptions> = {}) {
    const all = { ...options, ...change };
    this.runner = new SyntheticRunner(all.slots);
    this.core = new EngineCore(this.runner, all, () => this.steps);
  }

  step(): boolean {
    const busy = this.core.step();
    this.steps++;
    this.collect();
    return busy;
  }

  collect(): void {
    for (const { lane, events, end } of this.core.takeReports()) {
      if (end !== null) this.ends.set(lane, end);
      for (const event of events) {
        if (event.type === 'prompt') this.cached.set(lane, event.cachedTokens);
        if (event.type === 'token') this.textOf(lane, event.sequence).push(event.id);
      }
    }
  }

  run(): this {
    while (this.step()) assert.ok(this.steps < 10_000, 'the engine does not come to an end');
    return this;
  }

  textOf(lane: number, sequence = 0): TokenId[] {
    const key = `${lane}/${sequence}`;
    const known = this.tokens.get(key) ?? [];
    this.tokens.set(key, known);
    return known;
  }
}

const alone = (ask: GenerateRequest, sequence = 0) => {
  const bench = new Bench();
  bench.core.add(0, ask);
  return bench.run().textOf(0, sequence);
};
const randomPrompt = (rng: Rng, length: number) => Array.from({ length }, () => rng.below(64));

test('requests in a crowd give the tokens that they give alone, arriving at any time, sharing any prefix', () => {
  for (let round = 0; round < 30; round++) {
    const rng = new Rng(round);
    const bench = new Bench({ slots: 1 + rng.below(5), prefillChunk: 1 + rng.below(20) });
    const shared = randomPrompt(rng, 40);
    const asks = Array.from({ length: 24 }, (_, index) =>
      request([...shared.slice(0, rng.below(40)), ...randomPrompt(rng, 1 + rng.below(20))], {
        maxTokens: rng.below(12),
        sequences: 1 + rng.below(3),
        sampling: { ...greedy, temperature: index % 2, seed: BigInt(index), frequencyPenalty: index % 3 },
        promptLogprobs: index % 5 === 0,
        logprobs: index % 5 === 0 ? 1 : null,
      }),
    );
    for (const [id, ask] of asks.entries()) {
      bench.core.add(id, ask);
      for (let steps = rng.below(6); steps > 0; steps--) bench.step();
    }
    bench.run();
    for (const [id, ask] of asks.entries()) {
      assert.equal(bench.ends.get(id), 'done');
      for (let sequence = 0; sequence < ask.sequences; sequence++) {
        assert.equal(bench.textOf(id, sequence).length, ask.maxTokens);
        assert.deepEqual(bench.textOf(id, sequence), alone(ask, sequence), `round ${round}, request ${id}`);
      }
    }
    assert.equal(bench.core.stats.slotsBusy, 0);
    assert.equal(bench.core.stats.requestsRunning + bench.core.stats.requestsWaiting, 0);
  }
});

test('sequences of one request prefill their prompt once', () => {
  const bench = new Bench({ slots: 4, prefillChunk: 100 });
  bench.core.add(0, request(randomPrompt(new Rng(1), 50), { sequences: 6 }));
  bench.run();
  const prefilled = bench.runner.calls.filter(({ kind }) => kind === 'prefill');
  assert.deepEqual(prefilled, [{ kind: 'prefill', tokens: 50 }]);
});

test('a prompt seen before is taken from the cache but for its last two tokens, and never across model versions', () => {
  const bench = new Bench();
  const prompt = randomPrompt(new Rng(2), 30);
  bench.core.add(0, request(prompt));
  bench.run().core.add(1, request(prompt));
  bench.run().runner.version = 'two';
  bench.core.add(2, request(prompt));
  bench.run();
  assert.deepEqual(
    [0, 1, 2].map((lane) => bench.cached.get(lane)),
    [0, 28, 0],
  );
  assert.deepEqual(bench.textOf(0), bench.textOf(1));
  assert.notDeepEqual(bench.textOf(0), bench.textOf(2));
  assert.equal(bench.core.stats.prefixCacheHitTokens, 28);
});

test('streams keep decoding while a long prompt is prefilled, one step for each chunk', () => {
  const bench = new Bench({ prefillChunk: 8 });
  bench.core.add(0, request([1], { maxTokens: 60 }));
  bench.step();
  bench.core.add(1, request(randomPrompt(new Rng(3), 80)));
  const before = bench.textOf(0).length;
  while (bench.textOf(1).length === 0) bench.step();
  assert.equal(bench.textOf(0).length - before, 10);
  for (const { kind, tokens } of bench.runner.calls) assert.ok(kind === 'decode' || tokens <= 8);
});

test('no prompt is cut to leave a single token', () => {
  for (let round = 0; round < 200; round++) {
    const rng = new Rng(round);
    const bench = new Bench({ slots: 3, prefillChunk: 1 + rng.below(9) });
    const prompts = Array.from({ length: 8 }, () => randomPrompt(new Rng(rng.below(3)), 2 + rng.below(30)));
    for (const [id, prompt] of prompts.entries()) bench.core.add(id, request(prompt, { maxTokens: 2 }));
    bench.run();
    for (const { kind, tokens } of bench.runner.calls) assert.ok(kind === 'decode' || tokens >= 2);
  }
});

test('prompts are taken in order of arrival', () => {
  const bench = new Bench({ slots: 2 });
  const first: number[] = [];
  for (let id = 0; id < 12; id++) bench.core.add(id, request(randomPrompt(new Rng(id), 20 - id)));
  while (bench.step()) {
    for (let id = 0; id < 12; id++) if (bench.cached.has(id) && !first.includes(id)) first.push(id);
  }
  assert.deepEqual(
    first,
    Array.from({ length: 12 }, (_, id) => id),
  );
});

test('cancelling frees every slot at once: waiting, prefilling and decoding', () => {
  const bench = new Bench({ slots: 2, prefillChunk: 8 });
  bench.core.add(0, request([1, 2], { maxTokens: 50 }));
  bench.step();
  bench.core.add(1, request(randomPrompt(new Rng(4), 100)));
  bench.core.add(2, request([3]));
  bench.step();
  bench.step();
  assert.equal(bench.core.stats.slotsBusy, 2);
  assert.equal(bench.core.stats.requestsWaiting, 1);
  for (const id of [0, 1, 2]) bench.core.cancel(id);
  assert.equal(bench.core.stats.slotsBusy, 0);
  assert.equal(bench.step(), false);
  for (const id of [0, 1, 2])
    assert.equal((bench.ends.get(id) as { code: string }).code, 'request_cancelled');
});

test('a lane without credit pauses alone and goes on where it stopped', () => {
  const bench = new Bench({ laneBuffer: 4 });
  bench.core.add(0, request([9, 8], { maxTokens: 20 }));
  bench.core.add(1, request([7], { maxTokens: 4 }));
  bench.run();
  assert.equal(bench.textOf(0).length, 4);
  assert.equal(bench.ends.get(1), 'done');
  assert.equal(bench.core.stats.slotsBusy, 1);
  bench.core.credit(0, 16);
  assert.deepEqual(bench.run().textOf(0), alone(request([9, 8], { maxTokens: 20 })));
});

test('finishing one sequence frees its slot and leaves the others', () => {
  const bench = new Bench();
  bench.core.add(0, request([5], { sequences: 3, maxTokens: 30 }));
  while (bench.textOf(0, 2).length === 0) bench.step();
  assert.equal(bench.core.stats.slotsBusy, 3);
  bench.core.finish(0, 1);
  assert.equal(bench.core.stats.slotsBusy, 2);
  bench.run();
  assert.deepEqual(
    [0, 1, 2].map((i) => bench.textOf(0, i).length),
    [30, 1, 30],
  );
  assert.equal(bench.ends.get(0), 'done');
});

test('a failing run ends the lanes of that run with its error and no other', () => {
  const bench = new Bench({ prefillChunk: 4 });
  bench.core.add(0, request([1, 2, 3], { maxTokens: 10 }));
  bench.step();
  bench.runner.failOn = tokenId(63);
  bench.core.add(1, request([4, 63]));
  bench.step();
  bench.step();
  assert.match((bench.ends.get(1) as { message: string }).message, /device is gone/);
  bench.runner.failOn = null;
  bench.run();
  assert.equal(bench.ends.get(0), 'done');
  assert.equal(bench.core.stats.slotsBusy, 0);
});

test('a stop id ends its sequence and is no token of it; before minTokens it cannot come', () => {
  const free = alone(request([6], { maxTokens: 20 }));
  const stop = free[4] as TokenId;
  const bench = new Bench();
  bench.core.add(0, request([6], { maxTokens: 20, stopIds: new Set([stop]) }));
  bench.core.add(
    1,
    request([6], { maxTokens: 20, stopIds: new Set([stop]), sampling: { ...greedy, minTokens: 12 } }),
  );
  bench.run();
  assert.deepEqual(bench.textOf(0), free.slice(0, free.indexOf(stop)));
  assert.ok(bench.textOf(1).length >= 12 && !bench.textOf(1).includes(stop));
});

test('rows far apart are moved together once the waste outgrows the move', () => {
  const bench = new Bench({ slots: 4 });
  for (let id = 0; id < 4; id++) bench.core.add(id, request([id], { maxTokens: id % 3 === 0 ? 100 : 3 }));
  let swaps = 0;
  const swap = bench.runner.swap.bind(bench.runner);
  bench.runner.swap = (a, b) => {
    swaps++;
    swap(a, b);
  };
  bench.run();
  assert.equal(swaps, 1);
  for (let id = 0; id < 4; id++) {
    assert.deepEqual(bench.textOf(id), alone(request([id], { maxTokens: id % 3 === 0 ? 100 : 3 })));
  }
});

test('all requests can be ended with one error', () => {
  const bench = new Bench();
  for (let id = 0; id < 6; id++) bench.core.add(id, request([id]));
  bench.step();
  bench.core.failAll(new AppError('shutting_down', 'bye'));
  bench.collect();
  assert.equal(bench.ends.size, 6);
  assert.equal(bench.core.stats.slotsBusy, 0);
});
