import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { skipWithoutShared } from '../../shared.js';
import { operations } from './contract-check.js';
import { KEY, MODEL, PROMPT, startTestServer, type TestServer } from './harness.js';

const completion = { model: MODEL, prompt: PROMPT, max_tokens: 4 };
const chat = { model: MODEL, messages: [{ role: 'user', content: 'Hi' }], max_tokens: 4 };

describe('refusals', { skip: skipWithoutShared }, () => {
  let server: TestServer;
  before(async () => {
    server = await startTestServer({ BODY_LIMIT_BYTES: '100000' });
  });
  after(() => server.stop());

  test('every operation but the public ones needs a key, before its body is looked at', async () => {
    for (const { method, path, isPublic } of operations) {
      const url = path.replace('{id}', MODEL);
      for (const authorization of ['', 'Bearer wrong', `Basic ${KEY}`]) {
        const response = await fetch(server.url + url, {
          method,
          headers: { authorization, 'content-type': 'application/json' },
          ...(method === 'POST' && { body: '{broken' }),
        });
        await response.text();
        if (isPublic)
          assert.ok(response.status < 400, `${method} ${url} is public, but gave ${response.status}`);
        else assert.equal(response.status, 401, `${method} ${url} with '${authorization}'`);
      }
    }
  });

  test('a path that does not exist is 401 without a key and 404 with one', async () => {
    assert.equal(
      (await server.call('/v1/nothing', undefined, { headers: { authorization: '' } })).status,
      401,
    );
    assert.equal((await server.call('/v1/nothing')).status, 404);
  });

  test('a socket without a key is refused before the handshake', async () => {
    for (const path of ['/v1/completions', '/v1/chat/completions', '/v1/responses']) {
      const socket = new WebSocket(server.url.replace('http', 'ws') + path);
      const status = await new Promise((resolve, reject) => {
        socket.on('unexpected-response', (_, response) => resolve(response.statusCode));
        socket.on('open', () => reject(new Error('opened')));
        socket.on('error', () => {});
      });
      assert.equal(status, 401, path);
    }
  });

  const bodies: readonly (readonly [path: string, body: object, code: string, param: string | null])[] = [
    ['/v1/completions', { ...completion, model: 'no-such-model' }, 'model_not_found', 'model'],
    ['/v1/completions', { ...completion, prompt: [1e9] }, 'invalid_value', 'prompt.0'],
    ['/v1/completions', { ...completion, prompt: ['a', [49_152]] }, 'invalid_value', 'prompt.1.0'],
    [
      '/v1/completions',
      { ...completion, logit_bias: { 99999999: 1 } },
      'invalid_value',
      'logit_bias.99999999',
    ],
    ['/v1/completions', { ...completion, n: 2, best_of: 1 }, 'invalid_value', 'best_of'],
    ['/v1/completions', { ...completion, stream: true, best_of: 2 }, 'invalid_value', 'best_of'],
    ['/v1/completions', { ...completion, stream_options: {} }, 'invalid_value', 'stream_options'],
    ['/v1/completions', { ...completion, prompt: 'x '.repeat(20_000) }, 'context_length_exceeded', 'prompt'],
    ['/v1/completions', { ...completion, max_tokens: 5000 }, 'context_length_exceeded', 'max_tokens'],
    ['/v1/chat/completions', { ...chat, top_logprobs: 2 }, 'invalid_value', 'top_logprobs'],
    ['/v1/chat/completions', { ...chat, functions: [{}] }, 'unsupported_parameter', 'functions'],
    [
      '/v1/responses',
      { model: MODEL, input: 'x', previous_response_id: 'resp_x' },
      'not_found',
      'previous_response_id',
    ],
    ['/v1/rewards', { model: MODEL, input: [{ prompt: 'x', completions: ['y'] }] }, 'wrong_model_kind', null],
    ['/v1/tokenize', { model: MODEL }, 'invalid_value', 'text'],
    ['/v1/detokenize', { model: MODEL, tokens: [49_152] }, 'invalid_value', 'tokens.0'],
  ];
  for (const [path, body, code, param] of bodies)
    test(`${path} refuses ${JSON.stringify(body).slice(0, 90)} with ${code}`, async () => {
      const { status, body: answer } = await server.call(path, body);
      assert.ok(status >= 400 && status < 500, String(status));
      assert.equal(answer.error.code, code, answer.error.message);
      if (param !== null && code !== 'context_length_exceeded') assert.equal(answer.error.param, param);
    });

  test('a stream is refused with a status, not with an event', async () => {
    const response = await server.fetch('/v1/completions', {
      ...completion,
      prompt: 'x '.repeat(20_000),
      stream: true,
    });
    assert.equal(response.status, 400);
    assert.match(response.headers.get('content-type') ?? '', /json/);
    const { message } = ((await response.json()) as { error: { message: string } }).error;
    assert.ok((message.match(/\d+/g) ?? []).length >= 2, `gives both numbers: ${message}`);
  });

  test('bodies that are not JSON objects, however deep, are 400 and the server lives', async () => {
    const deep = 40_000;
    for (const raw of [
      '',
      '{',
      'null',
      '[]',
      '"x"',
      '['.repeat(deep) + ']'.repeat(deep),
      '{"a":'.repeat(5000),
      '{"__proto__":{"x":1},"model":"m"}',
    ]) {
      const { status } = await server.call('/v1/completions', raw, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
      });
      assert.equal(status, 400, raw.slice(0, 20));
    }
    assert.equal((await server.call('/v1/completions', completion)).status, 200);
    const nested = await server.call('/v1/completions', `{"model":${'['.repeat(65)}${']'.repeat(65)}}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
    });
    assert.match(nested.body.error.message, /deeper than 64 levels/);
  });

  test('wrong method, media type and size have their own status', async () => {
    const wrong = await server.call('/v1/completions', undefined, { method: 'PUT' });
    assert.deepEqual([wrong.status, wrong.headers.get('allow')], [405, 'POST, GET']);
    assert.equal(
      (await server.call('/v1/completions', '<x/>', { headers: { 'content-type': 'text/xml' } })).status,
      415,
    );
    assert.equal(
      (await server.call('/v1/completions', { ...completion, user: 'x'.repeat(200_000) })).status,
      413,
    );
    assert.equal((await server.call('/v1/completions')).status, 426);
  });

  test('headers that are too large and bytes that are not HTTP get the error shape', async () => {
    const speak = (bytes: string) =>
      new Promise<string>((resolve, reject) => {
        let text = '';
        const socket = connect(Number(new URL(server.url).port), '127.0.0.1', () => socket.write(bytes));
        socket.on('data', (data) => {
          text += data;
        });
        socket.on('close', () => resolve(text)).on('error', reject);
      });
    for (const [bytes, status, code] of [
      [
        `GET /healthz HTTP/1.1\r\nhost: x\r\nx-large: ${'a'.repeat(20_000)}\r\n\r\n`,
        '431',
        'headers_too_large',
      ],
      ['NOT HTTP\r\n\r\n', '400', 'bad_request'],
    ] as const) {
      const answer = await speak(bytes);
      assert.ok(answer.startsWith(`HTTP/1.1 ${status} `), answer);
      assert.equal(JSON.parse(answer.split('\r\n\r\n')[1]!).error.code, code);
    }
  });

  test('a text that cannot fit the context is refused before it is encoded, on every route', async () => {
    const long = 'a'.repeat(90_000);
    const messages = [{ role: 'user', content: long }];
    for (const [path, body, param] of [
      ['/v1/completions', { ...completion, prompt: long }, 'prompt'],
      ['/v1/completions', { ...completion, prompt: ['Hi', long] }, 'prompt.1'],
      ['/v1/chat/completions', { ...chat, messages }, 'messages'],
      ['/v1/responses', { model: MODEL, input: long }, 'input'],
    ] as const) {
      const { status, body: answer } = await server.call(path, body);
      assert.deepEqual(
        [status, answer.error.code, answer.error.param],
        [400, 'context_length_exceeded', param],
      );
      assert.match(answer.error.message, /context is 2048 tokens.* at least 2049 tokens/);
    }
  });

  test("the caller's request id comes back, a harmful one does not", async () => {
    const idOf = async (id: string) =>
      (await server.fetch('/healthz', undefined, { headers: { 'x-request-id': id } })).headers.get(
        'x-request-id',
      );
    assert.equal(await idOf('trace-1'), 'trace-1');
    assert.match((await idOf('a b"<script>')) ?? '', /^req_/);
  });

  test('the docs page and all its files come from this server', async () => {
    const page = await (await fetch(`${server.url}/docs`)).text();
    const files = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, file]) => file!);
    assert.ok(files.length >= 3);
    for (const file of files) {
      assert.doesNotMatch(file, /^(https?:)?\/\//);
      const response = await fetch(new URL(file, `${server.url}/docs/`));
      await response.arrayBuffer();
      assert.equal(response.status, 200, file);
    }
  });
});
