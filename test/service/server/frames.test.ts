import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { skipWithoutShared } from '../../shared.js';
import { checkNamed } from './contract-check.js';
import { eventsOf, MODEL, PROMPT, startTestServer, type TestServer } from './harness.js';

const greedy = { model: MODEL, temperature: 0, max_tokens: 12 };
const messages = [{ role: 'user', content: 'What is the capital of France?' }];

describe('frames of a stream', { skip: skipWithoutShared }, () => {
  let server: TestServer;
  before(async () => {
    server = await startTestServer();
  });
  after(() => server.stop());

  const stream = async (path: string, body: object) => {
    const response = await server.fetch(path, { ...body, stream: true });
    assert.equal(response.status, 200);
    assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/);
    const text = await response.text();
    assert.ok(text.endsWith('\n\n'), 'the last event ends with a blank line');
    return eventsOf(text);
  };

  test('completion chunks join to the whole answer, the last text carries the finish reason, [DONE] is last', async () => {
    const whole = (await server.call('/v1/completions', { ...greedy, prompt: PROMPT })).body;
    const events = await stream('/v1/completions', { ...greedy, prompt: PROMPT });
    assert.equal(events.at(-1), '[DONE]');
    const chunks = events.slice(0, -1).map((event) => JSON.parse(event));
    for (const chunk of chunks) checkNamed('CompletionChunk', chunk, 'chunk');
    assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), whole.choices[0].text);
    assert.equal(new Set(chunks.map(({ id, created, model }) => `${id} ${created} ${model}`)).size, 1);
    assert.ok(chunks.every((chunk) => !('usage' in chunk)));
    const last = chunks.at(-1).choices[0];
    assert.equal(last.finish_reason, 'length');
    assert.notEqual(last.text, '');
    assert.equal(chunks.filter((chunk) => chunk.choices[0].finish_reason !== null).length, 1);
  });

  test('usage is null on every chunk and comes in one without choices at the end, if asked for', async () => {
    for (const [path, input] of [
      ['/v1/completions', { prompt: PROMPT }],
      ['/v1/chat/completions', { messages }],
    ] as const) {
      const events = await stream(path, { ...greedy, ...input, stream_options: { include_usage: true } });
      const chunks = events.slice(0, -1).map((event) => JSON.parse(event));
      assert.deepEqual(chunks.at(-1).choices, []);
      const { prompt_tokens, completion_tokens, total_tokens } = chunks.at(-1).usage;
      assert.equal(total_tokens, prompt_tokens + completion_tokens);
      assert.ok(prompt_tokens > 0 && completion_tokens > 0 && completion_tokens <= 12);
      assert.ok(chunks.slice(0, -1).every(({ usage }) => usage === null));
    }
  });

  test('a chat begins with the role and ends with an empty delta that has the finish reason', async () => {
    const events = await stream('/v1/chat/completions', {
      ...greedy,
      messages,
      n: 2,
      temperature: 1,
      seed: 1,
    });
    const chunks = events.slice(0, -1).map((event) => JSON.parse(event));
    for (const chunk of chunks) checkNamed('ChatCompletionChunk', chunk, 'chunk');
    for (const index of [0, 1]) {
      const own = chunks.map((chunk) => chunk.choices[0]).filter((choice) => choice.index === index);
      assert.deepEqual(own[0].delta, { role: 'assistant', content: null });
      assert.deepEqual(own.at(-1).delta, {});
      assert.match(own.at(-1).finish_reason, /^(stop|length)$/);
      assert.ok(
        own.slice(1, -1).every(({ delta, finish_reason }) => !('role' in delta) && finish_reason === null),
      );
    }
  });

  test('log-probabilities of a stream are those of the whole answer', async () => {
    const body = { ...greedy, messages, logprobs: true, top_logprobs: 3 };
    const whole = (await server.call('/v1/chat/completions', body)).body.choices[0].logprobs.content;
    const events = await stream('/v1/chat/completions', body);
    const streamed = events
      .slice(0, -1)
      .flatMap((event) => JSON.parse(event).choices[0].logprobs?.content ?? []);
    assert.deepEqual(
      streamed.map(({ token }) => token),
      whole.map(({ token }: { token: string }) => token),
    );
    assert.ok(whole.every(({ top_logprobs }: { top_logprobs: unknown[] }) => top_logprobs.length === 3));
    assert.deepEqual(
      whole.flatMap(({ bytes }: { bytes: number[] }) => bytes),
      [...Buffer.from(whole.map(({ token }: { token: string }) => token).join(''))],
    );
  });

  test('choices of a batch are numbered prompt-major, in a stream too', async () => {
    const prompts = [PROMPT, [504, 3575, 282, 4649, 314]];
    const body = { ...greedy, prompt: prompts, n: 2, max_tokens: 4 };
    const { choices, usage } = (await server.call('/v1/completions', body)).body;
    assert.deepEqual(
      choices.map(({ index }: { index: number }) => index),
      [0, 1, 2, 3],
    );
    assert.equal(choices[0].text, choices[1].text, 'greedy choices of one prompt are equal');
    assert.notEqual(choices[0].text, choices[2].text);
    assert.equal(usage.completion_tokens, 16);
    const texts = ['', '', '', ''];
    for (const event of (await stream('/v1/completions', body)).slice(0, -1)) {
      const [choice] = JSON.parse(event).choices;
      texts[choice.index] += choice.text;
    }
    assert.deepEqual(
      texts,
      choices.map(({ text }: { text: string }) => text),
    );
  });

  test('echo with logprobs scores the prompt: null first, then one number a token', async () => {
    const prompt = [504, 3575, 282, 4649, 314];
    const body = { model: MODEL, prompt, max_tokens: 0, echo: true, logprobs: 1 };
    const { choices, usage } = (await server.call('/v1/completions', body)).body;
    const { token_logprobs, tokens, text_offset } = choices[0].logprobs;
    assert.equal(token_logprobs.length, prompt.length);
    assert.equal(token_logprobs[0], null);
    assert.ok(token_logprobs.slice(1).every((value: number) => value < 0));
    assert.equal(tokens.join(''), choices[0].text);
    assert.deepEqual(text_offset.slice(0, 2), [0, tokens[0].length]);
    assert.equal(usage.completion_tokens, 0);
  });

  test("events of a response come in OpenAI's order, numbered without a gap", async () => {
    const input = 'What is the capital of France?';
    const events = await stream('/v1/responses', {
      model: MODEL,
      input,
      temperature: 0,
      max_output_tokens: 6,
    });
    const parsed = events.map((event) => JSON.parse(event));
    for (const event of parsed) checkNamed('ResponseEvent', event, 'event');
    assert.deepEqual(
      parsed.map(({ sequence_number }) => sequence_number),
      parsed.map((_, index) => index),
    );
    const types: string[] = parsed.map(({ type }) => type);
    const deltas = types.filter((type) => type === 'response.output_text.delta').length;
    assert.deepEqual(types, [
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      ...Array.from({ length: deltas }, () => 'response.output_text.delta'),
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.incomplete',
    ]);
    const text = parsed.map(({ delta }) => delta ?? '').join('');
    assert.equal(parsed.at(-1).response.output[0].content[0].text, text);
    assert.deepEqual(parsed.at(-1).response.incomplete_details, { reason: 'max_output_tokens' });
  });
});
