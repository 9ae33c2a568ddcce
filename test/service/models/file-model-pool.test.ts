import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock, test } from 'node:test';
import { openModelPool } from '../../../src/models/file-model-pool.js';
import type { ModelPool, ModelPoolOptions } from '../../../src/models/model-pool.js';
import { type TinyOptions, writeTinyCheckpoint } from '../../tiny-checkpoint.js';

interface Place extends AsyncDisposable {
  readonly pool: ModelPool;
  /** Writes a checkpoint and imports it under the name. */
  add(name: string, options?: TinyOptions): Promise<void>;
}

async function place(options: Partial<ModelPoolOptions> = {}): Promise<Place> {
  const root = await mkdtemp(join(tmpdir(), 'instructd-pool-'));
  const pool = await openModelPool({
    directory: join(root, 'data'),
    provider: 'cpu',
    threads: 1,
    preload: [],
    hub: { endpoint: 'http://127.0.0.1:9' },
    engine: {
      slots: 2,
      contextLength: 128,
      prefillChunk: 32,
      maxQueuedRequests: 8,
      maxQueuedPromptTokens: 1024,
      laneBuffer: 16,
    },
    ...options,
  });
  return {
    pool,
    async add(name, options) {
      const path = writeTinyCheckpoint(join(root, name), options);
      await pool.import({ source: { type: 'directory', path }, name }, new AbortController().signal);
    },
    async [Symbol.asyncDispose]() {
      await pool[Symbol.asyncDispose]();
      await rm(root, { recursive: true, force: true });
    },
  };
}

const failure = (code: string, message: RegExp) => (error: unknown) => {
  assert.equal((error as { code?: string }).code, code);
  assert.match((error as Error).message, message);
  return true;
};

const namesLoaded = async (pool: ModelPool) => (await pool.loaded()).map(({ id }) => id);

test('callers at the same time share one load', async () => {
  await using here = await place();
  await here.add('tiny');
  const models = await Promise.all(Array.from({ length: 5 }, () => here.pool.text('tiny')));
  assert.equal(new Set(models).size, 1);
  assert.deepEqual(await namesLoaded(here.pool), ['tiny']);
});

test('a model of one kind is not given out as the other', async () => {
  await using here = await place();
  await here.add('tiny');
  await here.add('judge', { head: 'reward' });
  await assert.rejects(here.pool.text('judge'), failure('wrong_model_kind', /reward model/));
  await assert.rejects(here.pool.reward('tiny'), failure('wrong_model_kind', /language model/));
  await assert.rejects(here.pool.text('nobody'), failure('model_not_found', /nobody/));
  const [scored] = await (await here.pool.reward('judge')).score(
    [(await here.pool.text('tiny')).tokenizer.encode('hi', 'as_text')],
    {
      tokenValues: false,
      signal: new AbortController().signal,
    },
  );
  assert.ok(Number.isFinite(scored?.score));
});

test('a name that was given to another model is served by the new one', async () => {
  await using here = await place();
  await here.add('tiny', { seed: 1 });
  const before = await here.pool.text('tiny');
  await here.pool.remove('tiny');
  await assert.rejects(here.pool.text('tiny'), failure('model_not_found', /tiny/));
  await here.add('tiny', { seed: 2 });
  assert.notEqual(await here.pool.text('tiny'), before);
});

test('what can never fit is refused with both numbers', async () => {
  await using here = await place({ memoryBytes: 100_000 });
  await here.add('tiny');
  await assert.rejects(
    here.pool.text('tiny'),
    failure('out_of_memory', /needs [\d.]+ [kM]B .* [\d.]+ [kM]B of [\d.]+ [kM]B/),
  );
  assert.deepEqual(await namesLoaded(here.pool), []);
});

test('under the memory budget the model that has been idle longest makes room', async () => {
  // A model of 86,400 weights in int8 and 2 x 128 positions of KV takes about 0.36 MB.
  await using here = await place({ memoryBytes: 800_000 });
  for (const name of ['one', 'two', 'three']) await here.add(name);
  await here.pool.text('one');
  await here.pool.text('two');
  // All are in use a moment ago: nobody is thrown out below a caller.
  await assert.rejects(here.pool.text('three'), failure('out_of_memory', /three/));
  const now = Date.now();
  const clock = mock.method(Date, 'now', () => now + 60_000);
  try {
    await here.pool.text('one');
    clock.mock.mockImplementation(() => now + 120_000);
    await here.pool.text('three');
  } finally {
    clock.mock.restore();
  }
  assert.deepEqual((await namesLoaded(here.pool)).sort(), ['one', 'three']);
});
