import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { skipWithoutShared } from '../../shared.js';
import { KEY, MODEL, PROMPT, startTestServer, type TestServer } from './harness.js';

const long = { model: MODEL, prompt: PROMPT, max_tokens: 1500, ignore_eos: true };

describe('clients that go away, wait or do not read', { skip: skipWithoutShared }, () => {
  let server: TestServer;
  before(async () => {
    server = await startTestServer({ SLOTS: '2', MAX_QUEUED_REQUESTS: '4' });
  });
  after(() => server.stop());

  const abandoned = async (body: object, afterMs: number) => {
    const controller = new AbortController();
    const request = server
      .fetch('/v1/completions', body, { signal: controller.signal })
      .then((response) => response.text())
      .then(
        () => 'answered',
        () => 'aborted',
      );
    await sleep(afterMs);
    controller.abort();
    assert.equal(await request, 'aborted');
  };

  for (const stream of [true, false])
    test(`an abandoned ${stream ? 'stream' : 'whole answer'} frees its slot`, async () => {
      await abandoned({ ...long, stream }, 300);
      await server.slotsAreFree();
    });

  test('a request abandoned in the queue never runs, and those before it go on', async () => {
    const running = [1, 2].map((seed) => server.call('/v1/completions', { ...long, max_tokens: 60, seed }));
    while ((await server.metric('slots_busy')) < 2) await sleep(20);
    const before = await server.metric('prompt_tokens_total');
    await abandoned({ ...long, prompt: `Never ${PROMPT}`, stream: false }, 100);
    for (const { status, body } of await Promise.all(running)) {
      assert.equal(status, 200);
      assert.equal(body.usage.completion_tokens, 60);
    }
    await server.slotsAreFree();
    assert.equal(
      await server.metric('prompt_tokens_total'),
      before,
      'the abandoned prompt was never taken in',
    );
  });

  test('a batch that is abandoned frees the slots of all its prompts', async () => {
    await abandoned({ ...long, prompt: [PROMPT, `A ${PROMPT}`], n: 2 }, 300);
    await server.slotsAreFree();
  });

  test('over the queue the answer is 429 with Retry-After, and the SDK comes back after it', async () => {
    const controller = new AbortController();
    const crowd = Array.from({ length: 12 }, (_, seed) =>
      server.fetch('/v1/completions', { ...long, max_tokens: 200, seed }, { signal: controller.signal }).then(
        async (response) => ({
          status: response.status,
          retryAfter: response.headers.get('retry-after'),
          text: await response.text(),
        }),
        () => null,
      ),
    );
    const refused = (await Promise.race(crowd))!;
    assert.equal(refused.status, 429, refused.text);
    assert.ok(Number(refused.retryAfter) >= 1);
    assert.equal(JSON.parse(refused.text).error.code, 'queue_full');
    const retrying = server.client
      .withOptions({ maxRetries: 5 })
      .completions.create({ ...long, max_tokens: 2 });
    await sleep(50);
    controller.abort();
    assert.ok((await retrying).choices[0]);
    await Promise.all(crowd);
    await server.slotsAreFree();
  });

  test('a reader that does not read stops its own stream only, and is cut off when it goes', async () => {
    const body = JSON.stringify({ ...long, n: 1, stream: true, logprobs: 20 });
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${KEY}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
    socket.pause();
    await sleep(300);
    const other = await server.call('/v1/completions', { ...long, max_tokens: 20 });
    assert.equal(other.body.usage.completion_tokens, 20);
    socket.destroy();
    await server.slotsAreFree();
  });
});
