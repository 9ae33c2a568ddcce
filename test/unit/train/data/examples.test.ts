import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '../../../../src/core/errors.js';
import { loadTokenizer } from '../../../../src/models/tokenizer/load-tokenizer.js';
import { parseModelConfig } from '../../../../src/models/transformer/model-config.js';
import { ExampleEncoder, encodeRows } from '../../../../src/train/data/examples.js';
import { type DatasetKind, parseRow } from '../../../../src/train/data/rows.js';
import { checkVocabulary } from '../../../../src/train/model-weights.js';
import { modelDirectory, smallTokenizerFile } from '../../models/tokenizer/small-tokenizer.js';

const TEMPLATE =
  "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
const [END_OF_TEXT, END, USER, ASSISTANT] = [256, 257, 258, 259];

const loaded = (await loadTokenizer(
  modelDirectory({
    'tokenizer.json': smallTokenizerFile({
      addedTokens: ['<|endoftext|>', '<|end|>', '<|user|>', '<|assistant|>'].map((content) => ({ content })),
    }),
    'tokenizer_config.json': { eos_token: '<|endoftext|>', chat_template: TEMPLATE },
  }),
))!;
const encoder = new ExampleEncoder({ ...loaded, contextLength: 32 });

const row = <K extends DatasetKind>(kind: K, value: unknown, line = 7) => ({
  line,
  row: parseRow(kind, JSON.stringify(value), line),
});
const bytes = (text: string): number[] => [...Buffer.from(text)];
const refusal = (make: () => unknown): AppError => {
  try {
    make();
  } catch (error) {
    assert.ok(error instanceof AppError, String(error));
    return error;
  }
  throw new Error('taken');
};

test('a plain prompt is followed by the completion and the end of text, and loss starts at the completion', () => {
  const { tokens, start } = encoder.demonstration(
    row('demonstrations', { prompt: 'Hi:', completion: ' yo' }),
  );
  assert.deepEqual([[...tokens], start], [[...bytes('Hi: yo'), END_OF_TEXT], 3]);
});

test('messages go through the chat template and end with the end of a turn', () => {
  const messages = [{ role: 'user', content: 'Hi' }];
  const { tokens, start } = encoder.demonstration(row('demonstrations', { messages, completion: 'yo' }));
  assert.deepEqual([...tokens], [USER, ...bytes('Hi'), END, ASSISTANT, ...bytes('yo'), END]);
  assert.equal(start, 5);
});

test('the text of a special token that a person wrote is text, in prompt, message and completion', () => {
  const messages = [{ role: 'user', content: '<|end|>' }];
  const chat = encoder.demonstration(row('demonstrations', { messages, completion: '<|end|>' }));
  assert.deepEqual([...chat.tokens].filter((id) => id === END).length, 2);
  const plain = encoder.demonstration(row('demonstrations', { prompt: '<|endoftext|>', completion: 'a' }));
  assert.deepEqual([...plain.tokens].filter((id) => id === END_OF_TEXT).length, 1);
});

test('a comparison is scored without an end of text, as /v1/rewards scores it', () => {
  const value = { prompt: 'Hi:', completions: ['a', 'bc'], ranks: [2, 1] };
  const { sequences, ranks } = encoder.comparison(row('comparisons', value));
  assert.deepEqual(
    sequences.map(({ tokens }) => [...tokens]),
    [bytes('Hi:a'), bytes('Hi:bc')],
  );
  assert.deepEqual(ranks, [2, 1]);
});

test('a document longer than the context becomes several examples, all tokens learned', () => {
  const pieces = encoder.pretraining(row('pretraining', { text: 'x'.repeat(70) }));
  assert.deepEqual(
    pieces.map(({ tokens, start }) => [tokens.length, start]),
    [
      [32, 1],
      [32, 1],
      [7, 1],
    ],
  );
});

test('a prompt, or prompt and completion, over the context is refused by line and field', () => {
  const long = refusal(() =>
    encoder.demonstration(row('demonstrations', { prompt: 'x'.repeat(40), completion: 'a' })),
  );
  assert.deepEqual([long.code, long.param], ['example_too_long', 'line 7: prompt']);
  const both = refusal(() =>
    encoder.comparison(
      row('comparisons', { prompt: 'x', completions: ['a', 'y'.repeat(40)], ranks: [1, 2] }),
    ),
  );
  assert.deepEqual([both.code, both.param], ['example_too_long', 'line 7: completions.1']);
});

test('long rows are skipped and counted where asked, and a set of nothing else is refused', async () => {
  const short = row('demonstrations', { prompt: 'x', completion: 'a' });
  const long = row('demonstrations', { prompt: 'x'.repeat(40), completion: 'a' });
  const encode = (each: typeof short) => encoder.demonstration(each);
  const { examples, skipped } = await encodeRows([short, long, short], encode, 'skip');
  assert.deepEqual([examples.length, skipped], [2, 1]);
  await assert.rejects(encodeRows([long], encode, 'skip'), { code: 'dataset_empty' });
  await assert.rejects(encodeRows([short, long], encode, 'refuse'), { code: 'example_too_long' });
});

test('a completion without tokens, which a row made in code may have, is refused by line', () => {
  const made = row('demonstrations', { prompt: 'x', completion: 'a' });
  const { code, param } = refusal(() =>
    encoder.demonstration({ ...made, row: { ...made.row, completion: '' } }),
  );
  assert.deepEqual([code, param], ['empty_completion', 'line 7: completion']);
});

test('messages without a chat template are refused', () => {
  const plain = new ExampleEncoder({ ...loaded, chatTemplate: null, contextLength: 32 });
  const value = { messages: [{ role: 'user', content: 'a' }], completion: 'b' };
  assert.equal(refusal(() => plain.demonstration(row('demonstrations', value))).code, 'chat_template_failed');
});

test('a tokenizer with ids that the model lacks is refused with both numbers', () => {
  const config = parseModelConfig({
    model_type: 'gpt2',
    vocab_size: 259,
    n_embd: 8,
    n_layer: 1,
    n_head: 1,
  });
  const { code, message } = refusal(() => checkVocabulary(loaded.tokenizer, config));
  assert.equal(code, 'tokenizer_mismatch');
  assert.match(message, /259/);
  checkVocabulary(loaded.tokenizer, { ...config, vocabulary: 260 });
});
