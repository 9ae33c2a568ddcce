import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { skipWithoutShared } from '../../shared.js';
import { eventsOf, MODEL, PROMPT, startTestServer, type TestServer } from './harness.js';

const long = { model: MODEL, prompt: PROMPT, max_tokens: 1500, ignore_eos: true };

describe('an engine whose thread dies', { skip: skipWithoutShared }, () => {
  let server: TestServer;
  /** Threads that live, the newest last: each is the engine of a model. */
  const threads: Worker[] = [];
  const remember = (thread: Worker) => {
    threads.push(thread);
    thread.once('exit', () => threads.splice(threads.indexOf(thread), 1));
  };
  before(async () => {
    process.on('worker', remember);
    server = await startTestServer();
  });
  after(async () => {
    process.off('worker', remember);
    await server.stop();
  });

  /** Waits for the first chunk, kills the engine, and gives all events. */
  async function eventsAcrossDeath(path: string, body: object): Promise<readonly string[]> {
    const response = await server.fetch(path, { ...body, stream: true });
    assert.equal(response.status, 200);
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = (await reader.read()).value ?? '';
    assert.equal(threads.length, 1);
    await threads[0]!.terminate();
    for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value;
    return eventsOf(text);
  }

  test('its streams end on the error and [DONE], and the next request gets a new engine', async () => {
    const events = await eventsAcrossDeath('/v1/completions', long);
    assert.equal(events.at(-1), '[DONE]');
    const { error } = JSON.parse(events.at(-2)!);
    assert.deepEqual([error.type, error.param, error.code], ['server_error', null, 'engine_failed']);
    const next = await server.call('/v1/completions', { ...long, max_tokens: 3 });
    assert.equal(next.status, 200);
    assert.equal(next.body.usage.completion_tokens, 3);
    assert.equal(threads.length, 1);
    await server.slotsAreFree();
  });

  test('a chat and a response end in the same way, each in its own frames', async () => {
    const messages = [{ role: 'user', content: PROMPT }];
    const chat = await eventsAcrossDeath('/v1/chat/completions', { ...long, prompt: undefined, messages });
    assert.equal(chat.at(-1), '[DONE]');
    assert.equal(JSON.parse(chat.at(-2)!).error.code, 'engine_failed');
    const body = { model: MODEL, input: PROMPT, max_output_tokens: 1500, ignore_eos: true };
    const events = await eventsAcrossDeath('/v1/responses', body);
    const last = JSON.parse(events.at(-1)!);
    assert.deepEqual([last.type, last.code], ['error', 'engine_failed']);
  });

  test('requests without a stream that were running or waiting get 503 and a time to come back', async () => {
    await server.call('/v1/completions', { ...long, max_tokens: 1 });
    const crowd = Array.from({ length: 20 }, () => server.fetch('/v1/completions', long));
    while ((await server.metric('requests_waiting')) === 0);
    await threads[0]!.terminate();
    for (const response of await Promise.all(crowd)) {
      assert.equal(response.status, 503);
      assert.ok(Number(response.headers.get('retry-after')) >= 1);
      assert.equal(((await response.json()) as { error: { code: string } }).error.code, 'engine_failed');
    }
    assert.equal((await server.call('/v1/completions', { ...long, max_tokens: 1 })).status, 200);
  });
});
