import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { FileRegistry } from '../../../src/models/file-registry.js';
import { staged } from './registry-contender.js';

interface Place extends AsyncDisposable {
  readonly data: string;
  readonly registry: FileRegistry;
}

async function place(): Promise<Place> {
  const data = await mkdtemp(join(tmpdir(), 'instructd-registry-'));
  const remove = () => rm(data, { recursive: true, force: true });
  return { data, registry: new FileRegistry(data), [Symbol.asyncDispose]: remove };
}

const failsWith = (code: string) => (error: unknown) => (error as { code?: string }).code === code;

test('a model that was added is read back as it was, also by another registry on the same directory', async () => {
  await using here = await place();
  const added = await here.registry.add(await staged(here.registry, 'tiny'));
  for (const registry of [here.registry, new FileRegistry(here.data)]) {
    assert.deepEqual(await registry.get('tiny'), added);
    assert.deepEqual(await registry.list(), [added]);
  }
  assert.equal(await readFile(join(added.directory, 'model.safetensors'), 'utf8'), 'w');
});

test('a taken name is refused, and the model that has it stays as it was', async () => {
  await using here = await place();
  const first = await here.registry.add(await staged(here.registry, 'tiny', 'first'));
  await assert.rejects(
    here.registry.add(await staged(here.registry, 'tiny', 'second')),
    failsWith('model_exists'),
  );
  assert.equal(await readFile(join(first.directory, 'model.safetensors'), 'utf8'), 'first');
});

test('names that could leave the directory or hide in it are refused', async () => {
  await using here = await place();
  for (const name of ['', '.', '..', '../x', 'a/b', '.hidden', 'a b', 'ä', 'x'.repeat(129), 'a\0']) {
    await assert.rejects(
      here.registry.add(await staged(here.registry, name)),
      failsWith('invalid_value'),
      name,
    );
    await assert.rejects(here.registry.get(name), failsWith('model_not_found'), name);
    await assert.rejects(here.registry.remove(name), failsWith('model_not_found'), name);
  }
  for (const name of ['a', 'SmolLM2-135M-Instruct', 'ft:world-base:acme:1', '7b_v1.0'])
    await here.registry.add(await staged(here.registry, name));
});

test('a removed model is gone with its files', async () => {
  await using here = await place();
  await here.registry.add(await staged(here.registry, 'tiny'));
  await here.registry.remove('tiny');
  assert.deepEqual(await readdir(join(here.data, 'models')), []);
  await assert.rejects(here.registry.get('tiny'), failsWith('model_not_found'));
  await assert.rejects(here.registry.remove('tiny'), failsWith('model_not_found'));
});

test('what a dead process left is swept, what a live one fills is not', async () => {
  await using here = await place();
  const dead = await here.registry.stage();
  const live = await here.registry.stage();
  await writeFile(join(live, 'part'), 'x');
  const longAgo = new Date(Date.now() - 2 * 60 * 60 * 1000);
  await utimes(dead, longAgo, longAgo);
  // A directory's change time cannot be set back, so the sweep is asked about a later now.
  const now = Date.now;
  Date.now = () => now() + 30 * 60 * 1000;
  try {
    await here.registry.stage();
    assert.ok(existsSync(dead) && existsSync(live));
    Date.now = () => now() + 90 * 60 * 1000;
    await here.registry.stage();
    assert.ok(!existsSync(dead));
  } finally {
    Date.now = now;
  }
});

const contender = fileURLToPath(new URL('./registry-contender.js', import.meta.url));

test('of three processes that add the same names one wins each, and all see whole models only', async () => {
  await using here = await place();
  const fight = (i: number) =>
    new Promise<number>((resolve, reject) => {
      const child = fork(contender, [here.data, `process ${i}`], { execArgv: [] });
      child.once('message', (won) => resolve(won as number));
      child.once('exit', (code) => code !== 0 && reject(new Error(`process ${i} ended with ${code}`)));
    });
  const wins = await Promise.all([0, 1, 2].map(fight));
  assert.equal(
    wins.reduce((sum, won) => sum + won, 0),
    40,
    `wins ${wins}`,
  );
  assert.equal((await here.registry.list()).length, 40);
});
