import assert from 'node:assert/strict';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FileRegistry } from '../../../../src/models/file-registry.js';
import { Importer } from '../../../../src/models/import/importer.js';
import type { ImportAsk } from '../../../../src/models/model-pool.js';
import { writeTinyCheckpoint } from '../../../tiny-checkpoint.js';
import { HubServer } from '../../hub-server.js';

const COMMIT = '0123456789abcdef0123456789abcdef01234567';

interface Place extends AsyncDisposable {
  readonly data: string;
  readonly checkpoint: string;
  readonly registry: FileRegistry;
  import(ask: ImportAsk, signal?: AbortSignal): ReturnType<Importer['import']>;
  /** Everything under DATA_DIR. */
  files(): string[];
}

async function place(endpoint = 'http://127.0.0.1:9'): Promise<Place> {
  const root = await mkdtemp(join(tmpdir(), 'instructd-import-'));
  const data = join(root, 'data');
  const checkpoint = writeTinyCheckpoint(join(root, 'tiny'));
  const registry = new FileRegistry(data);
  const importer = new Importer(registry, {
    directory: data,
    provider: 'cpu',
    contextLength: 128,
    hub: { endpoint },
  });
  return {
    data,
    checkpoint,
    registry,
    import: (ask, signal = new AbortController().signal) => importer.import(ask, () => {}, signal),
    files: () => (existsSync(data) ? readdirSync(data, { recursive: true, encoding: 'utf8' }) : []),
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  };
}

const failure = (code: string, message: RegExp) => (error: unknown) => {
  assert.equal((error as { code?: string }).code, code);
  assert.match((error as Error).message, message);
  return true;
};

const directory = (path: string): ImportAsk => ({ source: { type: 'directory', path } });

test('an imported model needs its source no longer, and its quantised weights are there already', async () => {
  await using here = await place();
  const bytes = readFileSync(join(here.checkpoint, 'model.safetensors'));
  const record = await here.import(directory(here.checkpoint));
  assert.deepEqual(
    {
      id: record.id,
      kind: record.kind,
      quantization: record.quantization,
      architecture: record.architecture,
    },
    { id: 'tiny', kind: 'language', quantization: 'int8', architecture: 'llama' },
  );
  rmSync(here.checkpoint, { recursive: true });
  assert.deepEqual(readFileSync(join(record.directory, 'model.safetensors')), bytes);
  const prepared = readdirSync(join(record.directory, 'prepared'));
  assert.match(prepared.join(), /^weights-[0-9a-f]{32}\.safetensors$/);
});

test('the content hash follows the weights and the configuration, not the name', async () => {
  await using here = await place();
  const first = await here.import({ ...directory(here.checkpoint), name: 'first' });
  const again = await here.import({ ...directory(here.checkpoint), name: 'again', quantization: 'int4' });
  assert.equal(first.contentHash, again.contentHash);
  const other = writeTinyCheckpoint(join(here.data, '..', 'other'), { seed: 2 });
  assert.notEqual((await here.import(directory(other))).contentHash, first.contentHash);
});

const damages: Readonly<Record<string, { damage: (path: string) => void; code: string; message: RegExp }>> = {
  'weights cut short': {
    damage: (path) => truncateSync(join(path, 'model.safetensors'), 50_000),
    code: 'checkpoint_invalid',
    message: /truncated/,
  },
  'a layer too few': {
    damage: (path) => edit(path, 'config.json', (config) => ({ ...config, num_hidden_layers: 3 })),
    code: 'checkpoint_invalid',
    message: /lacks the tensor "model\.layers\.2\./,
  },
  'another width': {
    damage: (path) => edit(path, 'config.json', (config) => ({ ...config, intermediate_size: 128 })),
    code: 'checkpoint_invalid',
    message: /shape/,
  },
  'an unknown architecture': {
    damage: (path) => edit(path, 'config.json', (config) => ({ ...config, model_type: 'mamba' })),
    code: 'model_not_supported',
    message: /mamba/,
  },
  'no tokenizer': {
    damage: (path) => rmSync(join(path, 'tokenizer.json')),
    code: 'tokenizer_not_supported',
    message: /tokenizer\.json/,
  },
  'no configuration': {
    damage: (path) => rmSync(join(path, 'config.json')),
    code: 'checkpoint_invalid',
    message: /config\.json/,
  },
  'a weight that is no number': {
    damage: (path) => {
      const file = join(path, 'model.safetensors');
      const bytes = readFileSync(file);
      bytes.writeFloatLE(Number.NaN, bytes.length - 4);
      writeFileSync(file, bytes);
    },
    code: 'checkpoint_invalid',
    message: /NaN/,
  },
};

function edit(path: string, name: string, change: (json: Record<string, unknown>) => unknown): void {
  const file = join(path, name);
  writeFileSync(file, JSON.stringify(change(JSON.parse(readFileSync(file, 'utf8')))));
}

for (const [what, { damage, code, message }] of Object.entries(damages))
  test(`${what}: refused, and nothing is left behind`, async () => {
    await using here = await place();
    damage(here.checkpoint);
    await assert.rejects(here.import(directory(here.checkpoint)), failure(code, message));
    assert.deepEqual(here.files(), ['models']);
    assert.deepEqual(await here.registry.list(), []);
  });

test('a cancelled import leaves nothing behind', async () => {
  await using here = await place();
  const abort = new AbortController();
  const running = here.import(directory(here.checkpoint), abort.signal);
  abort.abort();
  await assert.rejects(running, failure('request_cancelled', /nothing was added/));
  assert.deepEqual(here.files(), ['models']);
});

test('a model comes from a hub under its commit, and its download does not stay', async () => {
  await using hub = await HubServer.start();
  await using here = await place(hub.endpoint);
  hub.models.set('acme/tiny', { commit: COMMIT, revisions: ['main'], files: filesOf(here.checkpoint) });
  const record = await here.import({ source: { type: 'hub', repository: 'acme/tiny' } });
  assert.deepEqual(record.source, { type: 'hub', location: 'acme/tiny', revision: COMMIT });
  assert.equal(
    record.contentHash,
    (await here.import({ ...directory(here.checkpoint), name: 'local' })).contentHash,
  );
  assert.deepEqual(readdirSync(join(here.data, 'downloads')), []);
});

test('a model that cannot run is refused before its weights are downloaded', async () => {
  await using hub = await HubServer.start();
  await using here = await place(hub.endpoint);
  edit(here.checkpoint, 'config.json', (config) => ({ ...config, model_type: 'mamba' }));
  hub.models.set('acme/tiny', { commit: COMMIT, revisions: ['main'], files: filesOf(here.checkpoint) });
  await assert.rejects(
    here.import({ source: { type: 'hub', repository: 'acme/tiny' } }),
    failure('model_not_supported', /mamba/),
  );
  assert.ok(!hub.requests.some(({ line }) => line.includes('model.safetensors')));
  assert.deepEqual(await here.registry.list(), []);
});

function filesOf(path: string): Map<string, Uint8Array> {
  const copy = `${path}-hosted`;
  cpSync(path, copy, { recursive: true });
  return new Map(readdirSync(copy).map((name) => [name, readFileSync(join(copy, name))]));
}
