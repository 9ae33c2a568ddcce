import assert from 'node:assert/strict';
import { test } from 'node:test';
import Fastify from 'fastify';
import type { AppError } from '../../../src/core/errors.js';
import {
  bindContract,
  Contract,
  type Handlers,
  type HttpOperationId,
  type SocketHandlers,
} from '../../../src/server/contract.js';

const contract = Contract.load();
const completion = { model: 'm', prompt: 'x' };

const refusals: readonly (readonly [HttpOperationId, unknown, string, string | null])[] = [
  ['createCompletion', null, 'invalid_json', null],
  ['createCompletion', [], 'invalid_json', null],
  ['createCompletion', undefined, 'invalid_json', null],
  ['createCompletion', {}, 'missing_required_parameter', 'model'],
  ['createCompletion', { model: null, prompt: 'x' }, 'missing_required_parameter', 'model'],
  ['createCompletion', { ...completion, prompt: 5 }, 'invalid_value', 'prompt'],
  ['createCompletion', { ...completion, prompt: [] }, 'invalid_value', 'prompt'],
  ['createCompletion', { ...completion, prompt: [1, -1] }, 'invalid_value', 'prompt.1'],
  ['createCompletion', { ...completion, prompt: [1.5] }, 'invalid_value', 'prompt.0'],
  ['createCompletion', { ...completion, prompt: ['x', []] }, 'invalid_value', 'prompt.1'],
  ['createCompletion', { ...completion, temperature: 2.1 }, 'invalid_value', 'temperature'],
  ['createCompletion', { ...completion, top_p: 0 }, 'invalid_value', 'top_p'],
  ['createCompletion', { ...completion, logprobs: 21 }, 'invalid_value', 'logprobs'],
  ['createCompletion', { ...completion, stop: [1] }, 'invalid_value', 'stop.0'],
  ['createCompletion', { ...completion, logit_bias: { abc: 1 } }, 'invalid_value', 'logit_bias'],
  ['createCompletion', { ...completion, logit_bias: { 5: 101 } }, 'invalid_value', 'logit_bias.5'],
  ['createCompletion', { ...completion, suffix: 'y' }, 'unsupported_parameter', 'suffix'],
  ['createCompletion', { ...completion, temprature: 1 }, 'unknown_parameter', 'temprature'],
  ['createCompletion', { ...completion, stream_options: { x: 1 } }, 'unknown_parameter', 'stream_options.x'],
  ['createChatCompletion', { model: 'm', messages: [] }, 'invalid_value', 'messages'],
  [
    'createChatCompletion',
    { model: 'm', messages: [{ role: 'nobody', content: 'x' }] },
    'invalid_value',
    'messages.0.role',
  ],
  [
    'createChatCompletion',
    { model: 'm', messages: [{ role: 'user' }] },
    'missing_required_parameter',
    'messages.0.content',
  ],
  ['createChatCompletion', chat({ content: 3 }), 'invalid_value', 'messages.0.content'],
  [
    'createChatCompletion',
    chat({ content: [{ type: 'image_url', image_url: {} }] }),
    'unsupported_parameter',
    'messages.0.content.0.type',
  ],
  ['createChatCompletion', { ...chat({}), tools: [{}] }, 'unsupported_parameter', 'tools'],
  [
    'createChatCompletion',
    { ...chat({}), response_format: { type: 'json_object' } },
    'unsupported_parameter',
    'response_format.type',
  ],
  ['createResponse', { model: 'm', input: 'x', background: true }, 'unsupported_parameter', 'background'],
  [
    'createRewards',
    { model: 'm', input: [{ prompt: 'x', completions: [] }] },
    'invalid_value',
    'input.0.completions',
  ],
  ['importModel', { source: { type: 'directory' } }, 'missing_required_parameter', 'source.path'],
];

function chat(message: object) {
  return { model: 'm', messages: [{ role: 'user', content: 'x', ...message }] };
}

for (const [operation, body, code, param] of refusals)
  test(`${operation} refuses ${JSON.stringify(body)} with ${code} at ${param}`, () => {
    assert.throws(
      () => contract.body(operation, structuredClone(body)),
      (error: AppError) => {
        assert.deepEqual([error.code, error.param], [code, param], error.message);
        return true;
      },
    );
  });

test('defaults are filled in and a top-level null is as if absent', () => {
  const body = contract.body('createCompletion', { ...completion, temperature: null, seed: null, user: 'u' });
  assert.equal(body.temperature, 1);
  assert.equal(body.n, 1);
  assert.equal(body.stream, false);
  assert.equal(body.seed, undefined);
});

test('empty tools and a plain text format change nothing and pass', () => {
  const harmless = {
    tools: [],
    tool_choice: 'auto',
    response_format: { type: 'text' },
    store: true,
    metadata: {},
  };
  assert.equal(contract.body('createChatCompletion', { ...chat({}), ...harmless }).model, 'm');
});

test("an answer of this API may come back as a message of the next request's", () => {
  const message = { role: 'assistant', content: 'Paris.', refusal: null, annotations: [], tool_calls: null };
  assert.equal(contract.body('createChatCompletion', { model: 'm', messages: [message] }).messages.length, 1);
});

const named = (ids: readonly string[]) => Object.fromEntries(ids.map((id) => [id, async () => ({})]));
const http = contract.operations.filter(({ isSocket }) => !isSocket).map(({ id }) => id);
const sockets = contract.operations.filter(({ isSocket }) => isSocket).map(({ id }) => id);
const bind = (ids: readonly string[]) =>
  bindContract(
    Fastify(),
    contract,
    named(ids) as unknown as Handlers,
    named(sockets) as unknown as SocketHandlers,
  );

test('every operation binds when each has its handler', () => {
  assert.doesNotThrow(() => bind(http));
});

test('an operation without a handler fails the boot by name', () => {
  assert.throws(
    () => bind(http.filter((id) => id !== 'createRewards')),
    /without a handler \[createRewards\]/,
  );
});

test('a handler without an operation fails the boot by name', () => {
  assert.throws(() => bind([...http, 'createPoem']), /without an operation \[createPoem\]/);
});

test('every operation that needs a key says what it answers without one', () => {
  for (const { id, path, method, isPublic } of contract.operations)
    if (!isPublic)
      assert.ok(
        '401' in contract.document.paths[path]![method.toLowerCase()]!.responses,
        `${id} documents no 401`,
      );
});
