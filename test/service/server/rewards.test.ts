import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { writeTinyCheckpoint } from '../../tiny-checkpoint.js';
import { startTestServer, type TestServer } from './harness.js';

describe('rewards and models of a service that began empty', () => {
  let server: TestServer;
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'instructd-rewards-'));
    server = await startTestServer({ DATA_DIR: join(directory, 'data'), PRELOAD: '' });
    for (const [name, head] of [
      ['judge', 'reward'],
      ['writer', 'language'],
    ] as const) {
      const path = writeTinyCheckpoint(join(directory, name), { head });
      const source = { type: 'directory', path };
      const { status, body } = await server.call('/v1/models', { source, name, quantization: 'none' });
      assert.equal(status, 201, JSON.stringify(body));
    }
  });
  after(async () => {
    await server.stop();
    await rm(directory, { recursive: true });
  });

  const input = [
    { prompt: 'Is water wet? ', completions: ['Yes.', 'No idea', 'Yes.'] },
    { messages: [{ role: 'user', content: 'Hi' }], completions: ['Hello!'] },
  ];

  test('completions are scored and ranked in place, equal ones share a rank', async () => {
    const { body } = await server.call('/v1/rewards', { model: 'judge', input });
    const [first, second] = body.data;
    assert.equal(first.scores[0], first.scores[2]);
    assert.notEqual(first.scores[0], first.scores[1]);
    assert.deepEqual(first.ranks, first.scores[0] > first.scores[1] ? [1, 3, 1] : [2, 1, 2]);
    assert.deepEqual([second.index, second.ranks], [1, [1]]);
    const alone = await server.call('/v1/rewards', { model: 'judge', input: [input[1]] });
    assert.ok(
      Math.abs(alone.body.data[0].scores[0] - second.scores[0]) < 1e-4,
      'a score does not depend on its batch',
    );
  });

  test('token values are one a token, the last of them the score', async () => {
    const body = { model: 'judge', input: [input[0]], token_values: true };
    const { data, usage } = (await server.call('/v1/rewards', body)).body;
    const values: number[][] = data[0].token_values;
    assert.equal(
      values.reduce((sum, { length }) => sum + length, 0),
      usage.total_tokens,
    );
    for (const [index, own] of values.entries())
      assert.ok(Math.abs(own.at(-1)! - data[0].scores[index]) < 1e-5);
  });

  test("get_reward scores OpenRLHF's whole texts with the only reward model", async () => {
    const { body } = await server.call('/get_reward', {
      query: ['one text', 'another'],
      prompts: ['one', 'an'],
    });
    assert.equal(body.rewards.length, 2);
    assert.deepEqual(body.rewards, body.scores);
    const named = await server.call('/get_reward?model=judge', { query: 'one text' });
    assert.ok(Math.abs(named.body.rewards[0] - body.rewards[0]) < 1e-4);
  });

  test('a language model gives no scores and a reward model no text', async () => {
    const scores = await server.call('/v1/rewards', { model: 'writer', input });
    const text = await server.call('/v1/completions', { model: 'judge', prompt: 'x' });
    assert.deepEqual(
      [scores.body.error.code, text.body.error.code],
      ['wrong_model_kind', 'wrong_model_kind'],
    );
  });

  test('neither prompt nor messages, or both, is refused by its place', async () => {
    for (const odd of [{ completions: ['x'] }, { ...input[1], prompt: 'x' }]) {
      const { status, body } = await server.call('/v1/rewards', { model: 'judge', input: [input[0], odd] });
      assert.deepEqual([status, body.error.param], [400, 'input.1']);
    }
  });

  test('a name is taken once, and a removed model is gone', async () => {
    const source = { type: 'directory', path: join(directory, 'writer') };
    assert.equal((await server.call('/v1/models', { source, name: 'writer' })).status, 409);
    await server.call('/v1/models', { source, name: 'brief', quantization: 'none' });
    const removed = await server.call('/v1/models/brief', undefined, { method: 'DELETE' });
    assert.deepEqual(removed.body, { id: 'brief', object: 'model', deleted: true });
    assert.equal((await server.call('/v1/models/brief')).status, 404);
  });
});
