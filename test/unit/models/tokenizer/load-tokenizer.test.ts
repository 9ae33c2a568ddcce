import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadTokenizer } from '../../../../src/models/tokenizer/load-tokenizer.js';
import { modelDirectory, type SmallTokenizer, smallTokenizerFile } from './small-tokenizer.js';

const addedTokens = [{ content: '<b>' }, { content: '<e>' }, { content: '<t>' }];
const tokenizerJson = smallTokenizerFile({ addedTokens });
const template = '{% for m in messages %}{{ bos_token }}{{ m.content }}<t>{% endfor %}';

test('a directory without any tokenizer gives null', async () => {
  assert.equal(await loadTokenizer(modelDirectory({ 'config.json': {} })), null);
});

test('end of text is what any of the files says, and what ends a turn of the chat', async () => {
  const loaded = await loadTokenizer(
    modelDirectory({
      'tokenizer.json': tokenizerJson,
      'tokenizer_config.json': { bos_token: '<b>', eos_token: { content: '<e>' }, chat_template: template },
      'generation_config.json': { eos_token_id: [3, 4] },
      'config.json': { eos_token_id: 5, vocab_size: 320 },
    }),
  );
  assert.deepEqual(
    [...(loaded?.tokenizer.endOfText ?? [])].sort((a, b) => a - b),
    [3, 4, 5, 257, 258],
  );
  assert.equal(loaded?.tokenizer.beginOfText, 256);
  assert.equal(loaded?.tokenizer.vocabularySize, 320);
});

test('chat_template.jinja stands before the one in tokenizer_config.json, default before other names', async () => {
  const render = async (files: Readonly<Record<string, unknown>>) => {
    const loaded = await loadTokenizer(modelDirectory({ 'tokenizer.json': tokenizerJson, ...files }));
    return loaded?.chatTemplate?.render([{ role: 'user', content: 'x' }], { addGenerationPrompt: false });
  };
  const named = [
    { name: 'tool_use', template: 'tool' },
    { name: 'default', template: 'default' },
  ];
  assert.equal(await render({ 'tokenizer_config.json': { chat_template: named } }), 'default');
  assert.equal(
    await render({ 'tokenizer_config.json': { chat_template: named }, 'chat_template.jinja': 'file' }),
    'file',
  );
  assert.equal(
    await render({ 'tokenizer_config.json': { bos_token: '<b>', chat_template: template } }),
    '<b>x<t>',
  );
  assert.equal(await render({}), undefined);
});

const refusals: Readonly<Record<string, readonly [SmallTokenizer, string]>> = {
  'a Unigram model': [{ model: { type: 'Unigram' } }, 'model.type'],
  'a WordPiece model': [{ model: { type: 'WordPiece' } }, 'model.type'],
  'byte fallback': [{ model: { byte_fallback: true } }, 'model.byte_fallback'],
  dropout: [{ model: { dropout: 0.1 } }, 'model.dropout'],
  'subword marks': [{ model: { end_of_word_suffix: '</w>' } }, 'model.end_of_word_suffix'],
  'an unknown normalizer': [{ file: { normalizer: { type: 'Lowercase' } } }, 'normalizer'],
  'a pre-tokenizer that is not byte-level': [
    { file: { pre_tokenizer: { type: 'Digits' } } },
    'pre_tokenizer',
  ],
  'an unknown pre-tokenizer': [{ file: { pre_tokenizer: { type: 'Metaspace' } } }, 'pre_tokenizer'],
  'a decoder that is not byte-level': [{ file: { decoder: { type: 'Metaspace' } } }, 'pre_tokenizer'],
  'an unknown post-processor': [{ file: { post_processor: { type: 'BertProcessing' } } }, 'post_processor'],
};
for (const [what, [small, param]] of Object.entries(refusals)) {
  test(`${what} is refused with the field's name`, async () => {
    const directory = modelDirectory({ 'tokenizer.json': smallTokenizerFile(small) });
    await assert.rejects(loadTokenizer(directory), { code: 'tokenizer_not_supported', param });
  });
}

test('a tokenizer in another form is refused with the way to convert it', async () => {
  await assert.rejects(loadTokenizer(modelDirectory({ 'tokenizer.model': 'x' })), {
    code: 'tokenizer_not_supported',
    message: /save_pretrained/,
  });
});

test('a file that is not JSON is named', async () => {
  await assert.rejects(loadTokenizer(modelDirectory({ 'tokenizer.json': '{' })), {
    code: 'checkpoint_invalid',
    param: 'tokenizer.json',
  });
});
