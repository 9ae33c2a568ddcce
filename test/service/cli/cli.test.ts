import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { writeTinyCheckpoint } from '../../tiny-checkpoint.js';

/** The command line as its users run it: processes, a real service, a real model. */

const bin = fileURLToPath(new URL('../../../../bin/instructd', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'instructd-cli-'));
const tiny = writeTinyCheckpoint(join(root, 'tiny'));
const reward = writeTinyCheckpoint(join(root, 'judge'), { head: 'reward' });
let environment: NodeJS.ProcessEnv = {};
let service: ChildProcess | null = null;

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function instructd(args: readonly string[], { env = {}, input = '', cwd = root } = {}): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [bin, ...args], { env: { ...environment, ...env }, cwd });
    let [out, err] = ['', ''];
    child.stdout.on('data', (data) => {
      out += data;
    });
    child.stderr.on('data', (data) => {
      err += data;
    });
    child.on('close', (code) => resolve({ code, out, err }));
    child.stdin.end(input);
  });
}

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

async function startService(): Promise<ChildProcess> {
  const child = spawn(process.execPath, [bin, 'serve'], {
    env: environment,
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  let said = '';
  child.stderr?.on('data', (data) => {
    said += data;
  });
  for (let wait = 0; !said.includes('listens on'); wait++) {
    if (wait > 300 || child.exitCode !== null) throw new Error(`the service did not start: ${said}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return child;
}

before(async () => {
  const { PATH, HOME } = process.env;
  environment = {
    PATH,
    HOME,
    DATA_DIR: join(root, 'data'),
    PORT: String(await freePort()),
    PROVIDER: 'cpu',
    THREADS: '1',
    LOG_LEVEL: 'silent',
  };
});

after(() => {
  service?.kill('SIGKILL');
  rmSync(root, { recursive: true, force: true });
});

test('without a service, a model is imported into DATA_DIR, and the output says so', async () => {
  const { code, out, err } = await instructd(['models', 'import', './tiny', '--name', 'first']);
  assert.equal(code, 0, err);
  assert.match(out, /^first: llama, 86k parameters, context 256, quantization int8\n$/);
  assert.match(err, /no service runs at/);
  assert.ok(!err.includes('\u001b'), 'terminal codes in a pipe');
});

test('without a service, generation fails in one line with the way out', async () => {
  const { code, out, err } = await instructd(['chat', 'first', 'hello']);
  assert.deepEqual({ code, out }, { code: 1, out: '' });
  assert.match(err, /^error: No service at http:\/\/127\.0\.0\.1:\d+; start one with 'instructd serve'.*\n$/);
});

test('a service serves what was imported before it started', async () => {
  service = await startService();
  const { code, out } = await instructd(['models', 'list', '--json']);
  assert.equal(code, 0);
  assert.deepEqual(
    (JSON.parse(out) as { data: { id: string }[] }).data.map(({ id }) => id),
    ['first'],
  );
});

test('a relative path is imported by the service, and the model answers at once', async () => {
  const imported = await instructd([
    'models',
    'import',
    'tiny',
    '--name',
    'second',
    '--quantization',
    'none',
  ]);
  assert.equal(imported.code, 0, imported.err);
  assert.match(imported.err, /importing into the service at/);
  const ask = ['complete', 'second', 'Once', '--max-tokens', '5', '--temperature', '0'];
  const [one, two] = [await instructd(ask), await instructd(ask)];
  assert.equal(one.code, 0, one.err);
  assert.ok(one.out.startsWith('Once') && one.out.length > 'Once'.length);
  assert.equal(one.out, two.out);
});

test('a model that another process puts into DATA_DIR is served without a restart', async () => {
  // To this process no service runs: it knows another port.
  const elsewhere = { PORT: String(await freePort()) };
  const { code, err } = await instructd(['models', 'import', tiny, '--name', 'third'], { env: elsewhere });
  assert.equal(code, 0, err);
  assert.match(err, /no service runs at/);
  assert.equal((await instructd(['chat', 'third', 'hi', '-n', '2'])).code, 0);
});

test('chat reads its text from a pipe', async () => {
  const { code, err } = await instructd(['chat', 'first', '-n', '3'], { input: 'What is a pipe?\n' });
  assert.equal(code, 0, err);
});

test('refusals of the service keep their code, and the exit code is 1', async () => {
  const cases: [args: string[], code: string][] = [
    [['models', 'import', tiny, '--name', 'first'], 'model_exists'],
    [['models', 'import', join(root, 'nowhere')], 'checkpoint_invalid'],
    [['models', 'import', 'no-such-thing'], 'invalid_value'],
    [['models', 'remove', 'nobody'], 'model_not_found'],
    [['chat', 'nobody', 'hi'], 'model_not_found'],
    [['complete', 'first', 'hi', '-n', '100000'], 'context_length_exceeded'],
  ];
  for (const [args, code] of cases) {
    const outcome = await instructd(args);
    assert.equal(outcome.code, 1, args.join(' '));
    assert.match(outcome.err, new RegExp(`^error: .*\\[${code}\\]$`, 'm'));
    const asJson = await instructd([...args.slice(0, 2), '--json', ...args.slice(2)]);
    if (args[0] === 'models')
      assert.equal((JSON.parse(asJson.err) as { error: { code: string } }).error.code, code);
  }
});

test('a wrong key is named, with where it was looked for', async () => {
  const { code, err } = await instructd(['models', 'list'], { env: { INSTRUCTD_API_KEY: 'wrong-key' } });
  assert.equal(code, 1);
  assert.match(err, /INSTRUCTD_API_KEY.*\[invalid_api_key\]/);
});

test('a reward model is imported as one', async () => {
  const { code, out } = await instructd(['models', 'import', reward, '--json']);
  assert.equal(code, 0);
  assert.equal((JSON.parse(out) as { kind: string }).kind, 'reward');
});

test('a removed model is gone from the list and from the disk', async () => {
  assert.equal((await instructd(['models', 'remove', 'second', 'third'])).code, 0);
  const { out } = await instructd(['models', 'list']);
  assert.doesNotMatch(out, /second|third/);
  assert.match(out, /^NAME +KIND.*\nfirst +language/);
});

test('every command has help with an example, and no help touches the disk or the network', async () => {
  const commands = [
    ['serve'],
    ['models'],
    ['models', 'import'],
    ['models', 'list'],
    ['models', 'remove'],
    ['chat'],
    ['complete'],
  ];
  for (const command of commands) {
    const { code, out } = await instructd([...command, '--help'], { env: { DATA_DIR: '/dev/null/x' } });
    assert.equal(code, 0);
    if (command.join() !== 'models') assert.match(out, /Examples?:\n {2}\S/, command.join(' '));
  }
});

test('a command line that cannot be read ends with 2', async () => {
  for (const args of [
    ['nonsense'],
    ['models', 'import'],
    ['models', 'import', 'x', '--quantization', 'int3'],
  ])
    assert.equal((await instructd(args)).code, 2, args.join(' '));
});

test('SIGTERM ends the service with 0, and its key stays readable for its owner alone', async () => {
  const running = service;
  assert.ok(running);
  const ended = new Promise((resolve) => running.once('exit', resolve));
  running.kill('SIGTERM');
  assert.equal(await ended, 0);
  service = null;
  assert.match(readFileSync(join(root, 'data', 'admin-key'), 'utf8'), /^\S{20,}\n$/);
});
