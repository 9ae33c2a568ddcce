import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { loadOrtLibrary } from '../../../src/models/runtime/ort-library.js';
import { bin, KEY } from './harness.js';

const provider = join(loadOrtLibrary().folder, 'libonnxruntime_providers_cuda.so');
const skip = existsSync(provider) && 'the CUDA provider is installed here';

/** `instructd serve` on an empty data directory, and its standard error so far. */
async function serve(t: TestContext, environment: Readonly<Record<string, string>>) {
  const directory = await mkdtemp(join(tmpdir(), 'instructd-provider-'));
  const child = spawn(process.execPath, [bin, 'serve'], {
    env: {
      ...process.env,
      DATA_DIR: directory,
      PORT: '0',
      LOG_LEVEL: 'silent',
      INSTRUCTD_API_KEY: KEY,
      ...environment,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.after(async () => {
    child.kill('SIGKILL');
    await rm(directory, { recursive: true });
  });
  const lines: string[] = [];
  child.stderr.setEncoding('utf8').on('data', (text: string) => lines.push(text));
  return { child, output: () => lines.join('') };
}

test('PROVIDER=cuda on a machine that cannot use it ends the start with exit code 1 and one sentence that says why', {
  skip,
}, async (t) => {
  const { child, output } = await serve(t, { PROVIDER: 'cuda' });
  const [code] = await once(child, 'close');
  assert.equal(code, 1);
  assert.equal(
    output(),
    `error: PROVIDER=cuda cannot be served: the CUDA provider library is missing: ${provider} is not there. [provider_unavailable]\n`,
  );
});

test('PROVIDER=auto says what it took and why', { skip }, async (t) => {
  const { child, output } = await serve(t, { PROVIDER: 'auto' });
  while (!output().includes('listens on')) await once(child.stderr, 'data');
  assert.match(output(), /^Running on the CPU: the CUDA provider library is missing: .+ is not there\.$/m);
});

test('a CUDA variable that cannot be read stops the start by name', async (t) => {
  const { child, output } = await serve(t, { CUDA_GRAPHS: 'yes' });
  const [code] = await once(child, 'close');
  assert.equal(code, 1);
  assert.equal(output(), "error: CUDA_GRAPHS is 'yes', but must be one of off, on [configuration_invalid]\n");
});
