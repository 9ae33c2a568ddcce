import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ResponsesWS } from 'openai/resources/responses/ws';
import type WebSocket from 'ws';
import { skipWithoutShared } from '../../shared.js';
import { checkNamed } from './contract-check.js';
import { MODEL, PROMPT, startTestServer, type TestServer } from './harness.js';

const greedy = { model: MODEL, prompt: PROMPT, temperature: 0, max_tokens: 16 };

interface Frame {
  readonly type: 'chunk' | 'done' | 'error';
  readonly id: string | null;
  readonly data?: { readonly choices: readonly { readonly text: string }[] };
  readonly error?: { readonly code: string; readonly message: string };
  readonly cancelled?: boolean;
}

/** Frames until `enough` says so. Fails after 60 s. */
const framesUntil = (
  socket: WebSocket,
  enough: (frames: readonly Frame[]) => boolean,
): Promise<readonly Frame[]> =>
  new Promise((resolve, reject) => {
    const frames: Frame[] = [];
    const timer = setTimeout(() => reject(new Error(`60 s: ${JSON.stringify(frames.slice(-3))}`)), 60_000);
    socket.on('message', (data) => {
      const frame = JSON.parse(String(data)) as Frame;
      checkNamed('LaneServerFrame', frame, 'frame');
      frames.push(frame);
      if (!enough(frames)) return;
      clearTimeout(timer);
      resolve(frames);
    });
    socket.on('close', (code) => reject(new Error(`closed with ${code}`)));
  });

const textOf = (frames: readonly Frame[], id: string): string =>
  frames.map((frame) => (frame.id === id ? (frame.data?.choices[0]?.text ?? '') : '')).join('');
const ended = (frames: readonly Frame[], ...ids: readonly (string | null)[]): boolean =>
  ids.every((id) => frames.some((frame) => frame.id === id && frame.type !== 'chunk'));

describe('lanes of a socket', { skip: skipWithoutShared }, () => {
  let server: TestServer;
  before(async () => {
    server = await startTestServer({ LANES_PER_SOCKET: '3' });
  });
  after(() => server.stop());

  test('lanes interleave and each gets the text of its own request', async (t) => {
    const socket = await server.socket('/v1/completions');
    t.after(() => socket.terminate());
    const frames = framesUntil(socket, (seen) => ended(seen, 'a', 'b'));
    socket.send(JSON.stringify({ type: 'create', id: 'a', ...greedy }));
    socket.send(JSON.stringify({ type: 'create', id: 'b', ...greedy, prompt: 'The capital of France is' }));
    const seen = await frames;
    const whole = async (prompt: string) =>
      (await server.call('/v1/completions', { ...greedy, prompt })).body.choices[0].text;
    assert.equal(textOf(seen, 'a'), await whole(PROMPT));
    assert.equal(textOf(seen, 'b'), await whole('The capital of France is'));
    const order = seen.map(({ id }) => id);
    assert.ok(order.indexOf('b') < order.lastIndexOf('a'), 'b began before a ended');
  });

  test('a cancelled lane ends as cancelled, frees its slot, and its name is free again', async (t) => {
    const socket = await server.socket('/v1/completions');
    t.after(() => socket.terminate());
    const cancelled = framesUntil(socket, (seen) => ended(seen, 'a'));
    socket.on('message', () => socket.send(JSON.stringify({ type: 'cancel', id: 'a' })));
    socket.send(JSON.stringify({ type: 'create', id: 'a', ...greedy, max_tokens: 1500 }));
    assert.deepEqual((await cancelled).at(-1), { type: 'done', id: 'a', cancelled: true });
    await server.slotsAreFree();
    socket.removeAllListeners('message');
    const again = framesUntil(socket, (seen) => ended(seen, 'a'));
    socket.send(JSON.stringify({ type: 'create', id: 'a', ...greedy, max_tokens: 2 }));
    assert.deepEqual((await again).at(-1), { type: 'done', id: 'a' });
  });

  test('a bad frame gets an error and harms neither socket nor lanes', async (t) => {
    const socket = await server.socket('/v1/completions');
    t.after(() => socket.terminate());
    const frames = framesUntil(
      socket,
      (seen) =>
        seen.some(({ type }) => type === 'done') && seen.filter(({ type }) => type === 'error').length === 6,
    );
    socket.send(JSON.stringify({ type: 'create', id: 'a', ...greedy }));
    socket.send('{not json');
    socket.send('[]');
    socket.send(Buffer.from('binary'), { binary: true });
    socket.send(JSON.stringify({ type: 'create', id: 'a', ...greedy }));
    socket.send(JSON.stringify({ type: 'create', id: 'c', ...greedy, prompt: 5 }));
    socket.send(JSON.stringify({ type: 'start', id: 'd' }));
    const seen = await frames;
    const errors = seen.filter(({ type }) => type === 'error').map(({ id, error }) => [id, error?.code]);
    assert.deepEqual(errors.sort(), [
      [null, 'invalid_json'],
      [null, 'invalid_json'],
      [null, 'invalid_json'],
      ['a', 'invalid_value'],
      ['c', 'invalid_value'],
      ['d', 'invalid_value'],
    ]);
    assert.ok(textOf(seen, 'a').length > 10, 'lane a went on');
  });

  test('a socket has a bounded number of lanes', async (t) => {
    const socket = await server.socket('/v1/completions');
    t.after(() => socket.terminate());
    const frames = framesUntil(socket, (seen) => ended(seen, 'lane 3'));
    for (let lane = 0; lane <= 3; lane++)
      socket.send(JSON.stringify({ type: 'create', id: `lane ${lane}`, ...greedy, max_tokens: 500 }));
    assert.equal((await frames).at(-1)?.error?.code, 'too_many_lanes');
  });

  test('closing a socket cancels all its lanes', async () => {
    const socket = await server.socket('/v1/completions');
    const frames = framesUntil(socket, (seen) => seen.length > 2);
    for (const id of ['a', 'b', 'c'])
      socket.send(JSON.stringify({ type: 'create', id, ...greedy, max_tokens: 1500 }));
    await frames;
    socket.terminate();
    await server.slotsAreFree();
  });

  test("the official SDK's ResponsesWS gets the events of each stream in order", async (t) => {
    const socket = new ResponsesWS(server.client);
    t.after(() => socket.close());
    const seen: { readonly stream_id?: string; readonly type: string; readonly delta?: string }[] = [];
    const finished = new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('event', (event) => {
        seen.push(event);
        if (seen.filter(({ type }) => /^response\.(completed|incomplete)$/.test(type)).length === 3)
          resolve();
      });
    });
    const ask = (stream_id: string, input: string) => {
      const request = {
        type: 'response.create',
        stream_id,
        model: MODEL,
        input,
        temperature: 0,
        max_output_tokens: 8,
      };
      socket.send(request as Parameters<typeof socket.send>[0]);
    };
    ask('a', 'What is the capital of France?');
    ask('a', 'Count to three.');
    ask('b', 'What is the capital of France?');
    await finished;
    const ofA = seen.filter(({ stream_id }) => stream_id === 'a').map(({ type }) => type);
    const firstEnd = ofA.findIndex((type) => /(completed|incomplete)$/.test(type));
    assert.equal(ofA.filter((type) => type === 'response.created').length, 2);
    assert.equal(
      ofA.lastIndexOf('response.created'),
      firstEnd + 1,
      'requests of one stream id do not overlap',
    );
    const text = (id: string, until: number) =>
      seen
        .filter(({ stream_id }) => stream_id === id)
        .slice(0, until)
        .map(({ delta }) => delta ?? '')
        .join('');
    assert.equal(text('b', 1000), text('a', firstEnd));
  });

  test('a bad request on a responses socket is an error event that the SDK can read', async (t) => {
    const socket = new ResponsesWS(server.client);
    t.after(() => socket.close());
    const failed = new Promise<{ readonly code?: string | null; readonly param?: string | null } | undefined>(
      (resolve) => socket.on('error', ({ error }) => resolve(error)),
    );
    socket.send({ type: 'response.create', model: MODEL, input: 'x', temperature: 9 });
    const error = await failed;
    assert.deepEqual([error?.code, error?.param], ['invalid_value', 'temperature']);
  });
});
