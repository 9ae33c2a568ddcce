import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { skipWithoutShared } from '../../shared.js';
import { MODEL, PROMPT, startTestServer, type TestServer } from './harness.js';

const greedy = { model: MODEL, temperature: 0, max_tokens: 12 };
const messages = [{ role: 'user' as const, content: 'What is the capital of France?' }];

describe('the official OpenAI client', { skip: skipWithoutShared }, () => {
  let server: TestServer;
  let client: OpenAI;
  before(async () => {
    server = await startTestServer({ CORS_ORIGINS: 'https://app.test' });
    client = server.client;
  });
  after(() => server.stop());

  test('lists and retrieves models, and a name that does not exist is NotFoundError', async () => {
    const { data } = await client.models.list();
    assert.deepEqual(
      data.map(({ id, object }) => [id, object]),
      [[MODEL, 'model']],
    );
    assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
    await assert.rejects(client.models.retrieve('none'), OpenAI.NotFoundError);
  });

  test('a wrong key is AuthenticationError and a wrong value BadRequestError with its field', async () => {
    await assert.rejects(
      new OpenAI({ baseURL: client.baseURL, apiKey: 'wrong', maxRetries: 0 }).models.list(),
      OpenAI.AuthenticationError,
    );
    await assert.rejects(
      client.completions.create({ ...greedy, prompt: PROMPT, top_p: 7 }),
      (error: unknown) => {
        assert.ok(error instanceof OpenAI.BadRequestError);
        assert.deepEqual([error.param, error.code], ['top_p', 'invalid_value']);
        return true;
      },
    );
  });

  test('a chat streams the text that it answers whole', async () => {
    const whole = await client.chat.completions.create({ ...greedy, messages });
    let text = '';
    for await (const chunk of await client.chat.completions.create({ ...greedy, messages, stream: true }))
      text += chunk.choices[0]?.delta.content ?? '';
    assert.equal(text, whole.choices[0]?.message.content);
    const runner = client.chat.completions.stream({ ...greedy, messages });
    assert.equal((await runner.finalChatCompletion()).choices[0]?.message.content, text);
  });

  test('an answer pushed back into the conversation is taken', async () => {
    const first = await client.chat.completions.create({ ...greedy, messages });
    const next = [
      ...messages,
      first.choices[0]!.message,
      { role: 'user' as const, content: 'And of Spain?' },
    ];
    assert.ok(
      (await client.chat.completions.create({ ...greedy, messages: next })).choices[0]?.message.content,
    );
  });

  test('leaving a stream early frees its slot', async () => {
    const stream = await client.completions.create({
      model: MODEL,
      prompt: PROMPT,
      max_tokens: 1500,
      stream: true,
    });
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 3) break;
    await server.slotsAreFree();
  });

  test('a response streams what it answers, is kept, continued and forgotten', async () => {
    const ask = { model: MODEL, temperature: 0, max_output_tokens: 12 };
    const first = await client.responses.create({ ...ask, input: 'My name is Ada. Say hello.' });
    assert.ok(first.output_text.length > 0);
    const stream = client.responses.stream({ ...ask, input: 'My name is Ada. Say hello.' });
    assert.equal((await stream.finalResponse()).output_text, first.output_text);
    assert.equal((await client.responses.retrieve(first.id)).output_text, first.output_text);
    const second = await client.responses.create({
      ...ask,
      input: 'What is my name?',
      previous_response_id: first.id,
    });
    const alone = await client.responses.create({ ...ask, input: 'What is my name?' });
    assert.ok(second.usage!.input_tokens > alone.usage!.input_tokens + first.usage!.output_tokens);
    const unnamed = await client.responses.create({ input: 'Hi', max_output_tokens: 1, temperature: 0 });
    assert.equal(unnamed.model, MODEL);
    const { output_text: opening } = await client.responses.create({
      max_output_tokens: 4,
      temperature: 0,
      ignore_eos: true,
    } as OpenAI.Responses.ResponseCreateParamsNonStreaming);
    assert.notEqual(opening, '');
    await client.responses.delete(first.id);
    await assert.rejects(client.responses.retrieve(first.id), OpenAI.NotFoundError);
  });

  test('a response that is not to be stored is not', async () => {
    const response = await client.responses.create({
      model: MODEL,
      input: 'Hi',
      max_output_tokens: 2,
      store: false,
    });
    await assert.rejects(client.responses.retrieve(response.id), OpenAI.NotFoundError);
  });

  test('the same seed gives the same text in a crowd, other seeds others', async () => {
    const ask = async (seed: number) =>
      (
        await client.completions.create({
          model: MODEL,
          prompt: PROMPT,
          max_tokens: 16,
          temperature: 1,
          seed,
        })
      ).choices[0]!.text;
    const alone = await ask(7);
    const crowd = await Promise.all([7, 1, 2, 3, 4, 5, 7].map(ask));
    assert.deepEqual([crowd[0], crowd.at(-1)], [alone, alone]);
    assert.ok(new Set(crowd).size >= 5);
  });

  test('tokenize and detokenize undo each other, and messages are counted as the chat counts them', async () => {
    const text = 'Ünïcödé 🚀 and <|im_end|> as characters';
    const { body } = await server.call('/v1/tokenize', { model: MODEL, text, add_special_tokens: false });
    assert.equal(body.count, body.tokens.length);
    assert.equal(
      (await server.call('/v1/detokenize', { model: MODEL, tokens: body.tokens })).body.text,
      text,
    );
    const chat = (await server.call('/v1/tokenize', { model: MODEL, messages })).body;
    assert.equal(
      chat.count,
      (await client.chat.completions.create({ ...greedy, messages })).usage?.prompt_tokens,
    );
    const parsed = await server.call('/v1/tokenize', {
      model: MODEL,
      text: '<|im_end|>',
      parse_special: true,
    });
    assert.equal(parsed.body.count, 1);
  });

  test('metrics count what was generated, and time it', async () => {
    const before = await server.metric('generation_tokens_total');
    await client.completions.create({ ...greedy, prompt: 'Metrics', max_tokens: 9, stop: null });
    assert.ok((await server.metric('generation_tokens_total')) - before >= 8);
    assert.ok((await server.metric('time_to_first_token_seconds_count')) > 0);
    assert.ok((await server.metric('inter_token_latency_seconds_count')) > 0);
  });

  test('browsers of a configured origin may call, others may not', async () => {
    const preflight = (origin: string) =>
      fetch(`${server.url}/v1/models`, {
        method: 'OPTIONS',
        headers: {
          origin,
          'access-control-request-method': 'GET',
          'access-control-request-headers': 'authorization',
        },
      });
    assert.equal(
      (await preflight('https://app.test')).headers.get('access-control-allow-origin'),
      'https://app.test',
    );
    assert.equal((await preflight('https://evil.test')).headers.get('access-control-allow-origin'), null);
    const answer = await server.fetch('/v1/models', undefined, { headers: { origin: 'https://app.test' } });
    assert.equal(answer.headers.get('access-control-allow-origin'), 'https://app.test');
  });
});
