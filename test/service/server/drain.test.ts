import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { skipWithoutShared } from '../../shared.js';
import { bin, dataDirectory, eventsOf, KEY, MODEL, PROMPT, TestServer } from './harness.js';

/** `instructd serve` as a process of its own. */
async function serveProcess(t: TestContext, environment: Readonly<Record<string, string>>) {
  const directory = await dataDirectory();
  const child = spawn(process.execPath, [bin, 'serve'], {
    env: {
      ...process.env,
      DATA_DIR: directory,
      PORT: '0',
      LOG_LEVEL: 'error',
      PROVIDER: 'cpu',
      PRELOAD: MODEL,
      INSTRUCTD_API_KEY: KEY,
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(async () => {
    child.kill('SIGKILL');
    await rm(directory, { recursive: true });
  });
  return { child, server: new TestServer(await addressOf(child), async () => {}) };
}

const addressOf = (child: ChildProcess): Promise<string> =>
  new Promise((resolve, reject) => {
    let output = '';
    child.stderr!.on('data', (data) => {
      output += data;
      const url = /listens on (http:\/\/\S+?),? /.exec(output)?.[1];
      if (url !== undefined) resolve(url);
    });
    child.once('exit', (code, signal) => reject(new Error(`exited with ${code ?? signal}: ${output}`)));
  });

/** Exit code, or the signal or error output that ended it otherwise. */
async function exitOf(child: ChildProcess): Promise<unknown> {
  let output = '';
  child.stderr!.on('data', (data) => {
    output += data;
  });
  const [code, signal] = await once(child, 'exit');
  return code === 0 || code === 1 ? code : `${code ?? signal}: ${output}`;
}

describe('drain', { skip: skipWithoutShared }, () => {
  test('after SIGTERM a stream finishes, readiness and new requests get 503, and the process exits 0', async (t) => {
    const { child, server } = await serveProcess(t, { DRAIN_SECONDS: '60' });
    const open = await server.fetch('/v1/completions', {
      model: MODEL,
      prompt: PROMPT,
      max_tokens: 120,
      ignore_eos: true,
      stream: true,
    });
    const streamed = open.text().catch(String);
    const exited = exitOf(child);
    child.kill('SIGTERM');
    await sleep(100);
    assert.equal((await server.call('/healthz')).status, 200);
    assert.equal((await server.call('/readyz')).status, 503);
    const late = await server.call('/v1/models');
    assert.deepEqual([late.status, late.body.error.code], [503, 'shutting_down']);
    assert.equal(await exited, 0);
    const events = eventsOf(await streamed);
    assert.equal(events.at(-1), '[DONE]');
    assert.equal(JSON.parse(events.at(-2)!).choices[0].finish_reason, 'length');
  });

  test('a stream over the limit is cut off and the process still exits 0', async (t) => {
    const { child, server } = await serveProcess(t, { DRAIN_SECONDS: '1' });
    const open = await server.fetch('/v1/completions', {
      model: MODEL,
      prompt: PROMPT,
      max_tokens: 1900,
      ignore_eos: true,
      stream: true,
    });
    const streamed = open.text().catch(() => 'cut off');
    const exited = exitOf(child);
    child.kill('SIGTERM');
    assert.equal(await exited, 0);
    assert.doesNotMatch(await streamed, /"finish_reason":"/);
  });

  test('a second SIGTERM exits at once', async (t) => {
    const { child, server } = await serveProcess(t, { DRAIN_SECONDS: '600' });
    const open = await server.fetch('/v1/completions', {
      model: MODEL,
      prompt: PROMPT,
      max_tokens: 1900,
      ignore_eos: true,
      stream: true,
    });
    open.text().catch(() => {});
    const exited = exitOf(child);
    child.kill('SIGTERM');
    await sleep(200);
    child.kill('SIGTERM');
    assert.equal(await exited, 1);
  });
});
