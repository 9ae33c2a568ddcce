import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { keysOf, loadAdminKey } from '../../../src/server/auth.js';

const dataDirectory = async (t: TestContext): Promise<string> => {
  const directory = await mkdtemp(join(tmpdir(), 'instructd-auth-'));
  t.after(() => rm(directory, { recursive: true }));
  return join(directory, 'data');
};

test('the first boot makes a key that only its owner can read, later boots keep it', async (t) => {
  const directory = await dataDirectory(t);
  const first = await loadAdminKey(directory, null);
  assert.equal(first.created, true);
  assert.ok(first.key.length >= 32);
  assert.equal((await stat(first.path)).mode & 0o777, 0o600);
  const second = await loadAdminKey(directory, null);
  assert.deepEqual(second, { ...first, created: false });
});

test('a configured key wins and is kept where the CLI finds it', async (t) => {
  const directory = await dataDirectory(t);
  await loadAdminKey(directory, null);
  const configured = await loadAdminKey(directory, 'configured-key');
  assert.deepEqual([configured.key, configured.created], ['configured-key', false]);
  assert.equal((await readFile(configured.path, 'utf8')).trim(), 'configured-key');
});

test('only the very key as a Bearer is let in', () => {
  const keys = keysOf('right-key');
  keys.check('Bearer right-key');
  keys.check('bearer right-key');
  for (const header of [
    undefined,
    '',
    'Bearer',
    'Bearer ',
    'Basic right-key',
    'right-key',
    'Bearer right-keY',
    'Bearer right-key x',
  ])
    assert.throws(() => keys.check(header), { code: 'invalid_api_key' }, String(header));
});

test('a data directory that cannot be made is refused by name, not waited for', async (t) => {
  const directory = await dataDirectory(t);
  const file = join(directory, '..', 'file');
  await writeFile(file, '');
  const refused = { code: 'configuration_invalid', param: 'DATA_DIR' };
  await assert.rejects(loadAdminKey(join(file, 'data'), null), refused);
  // procfs answers ENOENT to every mkdir, at which a recursive mkdir of Node loops for ever.
  await assert.rejects(loadAdminKey('/proc/instructd/data', null), refused);
});

test('a data directory is made with all that is above it', async (t) => {
  const directory = join(await dataDirectory(t), 'a', 'b');
  const { key, path } = await loadAdminKey(directory, null);
  assert.equal((await readFile(path, 'utf8')).trim(), key);
});
