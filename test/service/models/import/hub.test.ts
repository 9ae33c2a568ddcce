import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type DownloadProgress, downloadSnapshot } from '../../../../src/models/import/hub.js';
import { HubServer } from '../../hub-server.js';

const NAME = 'acme/tiny';
const COMMIT = '0123456789abcdef0123456789abcdef01234567';
const text = (value: unknown) => Buffer.from(JSON.stringify(value));

const weights = randomBytes(300_000);
const files = new Map<string, Uint8Array>([
  ['.gitattributes', text('')],
  ['README.md', text('a long story')],
  ['config.json', text({ model_type: 'llama' })],
  ['generation_config.json', text({})],
  ['tokenizer.json', randomBytes(70_000)],
  ['tokenizer_config.json', text({})],
  ['chat_template.jinja', Buffer.from('{{ messages }}')],
  ['pytorch_model.bin', randomBytes(1_000)],
  ['model.safetensors', weights],
]);

interface Place extends AsyncDisposable {
  readonly hub: HubServer;
  readonly downloads: string;
}

async function place(): Promise<Place> {
  const hub = await HubServer.start();
  hub.models.set(NAME, { commit: COMMIT, revisions: ['main', 'v1.0/final'], files });
  const downloads = await mkdtemp(join(tmpdir(), 'instructd-hub-'));
  return {
    hub,
    downloads,
    async [Symbol.asyncDispose]() {
      await hub[Symbol.asyncDispose]();
      await rm(downloads, { recursive: true, force: true });
    },
  };
}

const download = (
  { hub, downloads }: Place,
  {
    repository = NAME,
    revision = 'main',
    token = undefined as string | undefined,
    signal = new AbortController().signal,
  } = {},
  onProgress: (progress: DownloadProgress) => void = () => {},
) =>
  downloadSnapshot(
    { endpoint: hub.endpoint, ...(token !== undefined && { token }) },
    { repository, revision },
    downloads,
    async () => {},
    onProgress,
    signal,
  );

const failure = (code: string, message: RegExp) => (error: unknown) => {
  assert.equal((error as { code?: string }).code, code);
  assert.match((error as Error).message, message);
  return true;
};

test('a snapshot holds what a checkpoint needs, byte for byte, and nothing else', async () => {
  await using here = await place();
  const { directory, commit } = await download(here);
  assert.equal(commit, COMMIT);
  assert.deepEqual((await readdir(directory)).sort(), [
    'chat_template.jinja',
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
  for (const name of await readdir(directory))
    assert.deepEqual(await readFile(join(directory, name)), Buffer.from(files.get(name) ?? []), name);
});

test('a revision with a slash names its commit', async () => {
  await using here = await place();
  assert.equal((await download(here, { revision: 'v1.0/final' })).commit, COMMIT);
});

test('progress ends at the sum of the listed sizes and never goes back', async () => {
  await using here = await place();
  const seen: DownloadProgress[] = [];
  const { directory } = await download(here, {}, (progress) => seen.push(progress));
  const sizes = (await readdir(directory)).map((name) => files.get(name)?.length ?? 0);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  assert.deepEqual(seen.at(-1)?.received, total);
  assert.ok(seen.every((now, i) => now.total === total && now.received >= (seen[i - 1]?.received ?? 0)));
});

test('a connection that breaks is taken up where it stopped', async () => {
  await using here = await place();
  here.hub.breakAfter = [20_000, 10_000, 30_000];
  const { directory } = await download(here);
  assert.deepEqual(await readFile(join(directory, 'model.safetensors')), weights);
  const ranges = here.hub.requests.filter(
    ({ origin, line }) => origin === 'storage' && line.includes('bytes='),
  );
  assert.ok(
    ranges.length >= 3 && !ranges.some(({ line }) => line.includes('bytes=0-')),
    JSON.stringify(ranges),
  );
});

test('an aborted download is taken up by the next call', async () => {
  await using here = await place();
  const abort = new AbortController();
  const first = download(here, { signal: abort.signal }, ({ file, received, total }) => {
    if (file === 'model.safetensors' && received > total / 2) abort.abort();
  });
  await assert.rejects(first, failure('request_cancelled', /cancelled/));
  assert.deepEqual(await readdir(here.downloads), [`acme--tiny@${COMMIT}`]);
  here.hub.requests.length = 0;
  const { directory } = await download(here);
  assert.deepEqual(await readFile(join(directory, 'model.safetensors')), weights);
  const fetched = here.hub.requests.filter(({ line }) => line.includes('/resolve/'));
  assert.ok(
    fetched.every(({ line }) => line.includes('model.safetensors')),
    JSON.stringify(fetched),
  );
});

test('two downloads of one model at once do not touch each other', async () => {
  await using here = await place();
  const both = await Promise.all([download(here), download(here)]);
  for (const { directory } of both)
    assert.deepEqual(await readFile(join(directory, 'model.safetensors')), weights);
  assert.notEqual(both[0]?.directory, both[1]?.directory);
});

test('shards come from the index', async () => {
  await using here = await place();
  const sharded = new Map(files);
  sharded.delete('model.safetensors');
  for (const i of [1, 2]) sharded.set(`model-0000${i}-of-00002.safetensors`, randomBytes(80_000));
  sharded.set('consolidated.safetensors', randomBytes(80_000));
  sharded.set(
    'model.safetensors.index.json',
    text({ weight_map: { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' } }),
  );
  here.hub.models.set(NAME, { commit: COMMIT, revisions: ['main'], files: sharded });
  const names = await readdir((await download(here)).directory);
  assert.deepEqual(names.filter((name) => name.includes('safetensors')).sort(), [
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    'model.safetensors.index.json',
  ]);
});

test('content that differs from the list is refused and not kept', async () => {
  await using here = await place();
  here.hub.corrupt = true;
  await assert.rejects(download(here), failure('hub_failed', /sha256 [0-9a-f]{64}.*something else/));
  here.hub.corrupt = false;
  assert.deepEqual(await readFile(join((await download(here)).directory, 'model.safetensors')), weights);
});

test('a hub that is busy for a moment is asked again', async () => {
  await using here = await place();
  here.hub.failWith = [503, 429];
  await download(here);
});

test('what is not there, gated or away is said in one sentence with the way out', async () => {
  await using here = await place();
  await assert.rejects(
    download(here, { repository: 'acme/none' }),
    failure('hub_failed', /401.*set HF_TOKEN/),
  );
  await assert.rejects(
    download(here, { revision: 'v9' }),
    failure('hub_failed', /404 for acme\/tiny at 'v9': Invalid rev id: v9; check the name/),
  );
  here.hub.models.set('acme/gated', { commit: COMMIT, revisions: ['main'], files, token: 'hf_right' });
  const gated = { repository: 'acme/gated' };
  await assert.rejects(download(here, gated), failure('hub_failed', /403.*set HF_TOKEN/));
  await assert.rejects(
    download(here, { ...gated, token: 'hf_wrong' }),
    failure('hub_failed', /403.*accept the conditions/),
  );
  const bare = new Map([...files].filter(([name]) => name !== 'model.safetensors'));
  here.hub.models.set('acme/bare', { commit: COMMIT, revisions: ['main'], files: bare });
  await assert.rejects(
    download(here, { repository: 'acme/bare' }),
    failure('checkpoint_invalid', /no model\.safetensors/),
  );
  const { endpoint } = here.hub;
  await here.hub[Symbol.asyncDispose]();
  await assert.rejects(
    downloadSnapshot(
      { endpoint },
      { repository: NAME, revision: 'main' },
      here.downloads,
      async () => {},
      () => {},
      new AbortController().signal,
    ),
    failure('hub_failed', /cannot be reached.*HF_ENDPOINT/),
  );
});

test('the key goes to the hub and not to where it redirects', async () => {
  await using here = await place();
  here.hub.models.set(NAME, { commit: COMMIT, revisions: ['main'], files, token: 'hf_right' });
  await download(here, { token: 'hf_right' });
  const keys = (origin: string) =>
    new Set(here.hub.requests.filter((r) => r.origin === origin).map((r) => r.key));
  assert.deepEqual(keys('hub'), new Set([true]));
  assert.deepEqual(keys('storage'), new Set([false]));
});
