import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../../src/core/rng.js';
import { tokenId } from '../../../../src/core/units.js';
import { ByteLevelTokenizer } from '../../../../src/models/tokenizer/byte-level-tokenizer.js';
import { parseTokenizerFile } from '../../../../src/models/tokenizer/tokenizer-file.js';
import { type SmallTokenizer, smallTokenizerFile } from './small-tokenizer.js';

const tokenizerOf = (small: SmallTokenizer, modelVocabularySize = 0): ByteLevelTokenizer =>
  new ByteLevelTokenizer(parseTokenizerFile(smallTokenizerFile(small)), {
    beginOfText: null,
    endOfText: new Set(),
    modelVocabularySize,
  });

/** Each token as its text. */
const tokensOf = (
  tokenizer: ByteLevelTokenizer,
  text: string,
  special: 'parse' | 'as_text' = 'parse',
): string[] => tokenizer.encode(text, special).map((id) => tokenizer.decode([id], 'keep'));

test('special tokens are control tokens only where they are parsed; other added tokens always', () => {
  const tokenizer = tokenizerOf({ addedTokens: [{ content: '<e>' }, { content: '<t>', special: false }] });
  assert.deepEqual(tokensOf(tokenizer, 'a<e><t>'), ['a', '<e>', '<t>']);
  assert.deepEqual(tokensOf(tokenizer, 'a<e><t>', 'as_text'), ['a', '<', 'e', '>', '<t>']);
  assert.equal(tokenizer.decode(tokenizer.encode('a<e><t>', 'parse')), 'a<t>');
});

test('of added tokens at one place the longest wins', () => {
  const tokenizer = tokenizerOf({ addedTokens: [{ content: '<e' }, { content: '<e>' }] });
  assert.deepEqual(tokensOf(tokenizer, '<e><e'), ['<e>', '<e']);
});

test('lstrip and rstrip take the whitespace into the token, single_word stays out of words', () => {
  const tokenizer = tokenizerOf({
    addedTokens: [
      { content: '<l>', lstrip: true },
      { content: '<r>', rstrip: true },
      { content: 'foo', single_word: true },
    ],
  });
  assert.deepEqual(tokensOf(tokenizer, 'a \n<l> b'), ['a', '<l>', ' ', 'b']);
  assert.deepEqual(tokensOf(tokenizer, 'a <r> \n b'), ['a', ' ', '<r>', 'b']);
  assert.deepEqual(tokensOf(tokenizer, 'foo foos éfoo -foo-'), [
    ...'foo'.split(' '),
    ' ',
    'f',
    'o',
    'o',
    's',
    ' ',
    '�',
    '�',
    'f',
    'o',
    'o',
    ' ',
    '-',
    'foo',
    '-',
  ]); // prettier-ignore
});

test('a token marked normalized is found after the normalizer, others before', () => {
  const tokenizer = tokenizerOf({
    file: { normalizer: { type: 'NFC' } },
    addedTokens: [
      { content: '\u00e9!', normalized: true },
      { content: 'e\u0301?', normalized: false },
    ],
  });
  assert.deepEqual(tokenizer.encode('e\u0301!', 'parse'), [256]);
  assert.deepEqual(tokenizer.encode('e\u0301?', 'parse'), [257]);
  assert.deepEqual(tokenizer.encode('e\u0301', 'parse').length, 2);
});

test('digits cut off by themselves leave the spaces before them whole', () => {
  const tokenizer = tokenizerOf({
    merges: [['Ġ', 'Ġ']],
    file: {
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [
          { type: 'Digits', individual_digits: true },
          { type: 'ByteLevel', add_prefix_space: false },
        ],
      },
    },
  });
  assert.deepEqual(tokensOf(tokenizer, 'a  4'), ['a', '  ', '4']);
  assert.deepEqual(tokensOf(tokenizer, 'a  b'), ['a', ' ', ' ', 'b']);
});

test('add_prefix_space puts one space before the text', () => {
  const tokenizer = tokenizerOf({ file: { pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true } } });
  assert.deepEqual(tokensOf(tokenizer, 'a'), [' ', 'a']);
  assert.deepEqual(tokensOf(tokenizer, ' a'), [' ', 'a']);
});

test('the post-processor surrounds a whole prompt', () => {
  const tokenizer = tokenizerOf({
    addedTokens: [{ content: '<b>' }, { content: '<e>' }],
    file: {
      post_processor: {
        type: 'Sequence',
        processors: [
          { type: 'ByteLevel' },
          {
            type: 'TemplateProcessing',
            single: [
              { SpecialToken: { id: '<b>' } },
              { Sequence: { id: 'A' } },
              { SpecialToken: { id: '<e>' } },
            ],
            special_tokens: { '<b>': { ids: [256] }, '<e>': { ids: [257] } },
          },
        ],
      },
    },
  });
  assert.deepEqual(tokenizer.withSpecialTokens([tokenId(1), tokenId(2)]), [256, 1, 2, 257]);
});

test('lone surrogates become U+FFFD', () => {
  const tokenizer = tokenizerOf({});
  assert.equal(tokenizer.decode(tokenizer.encode('a\ud800b\udc00', 'parse')), 'a\ufffdb\ufffd');
});

test('the texts of a stream are those of the whole decode, for any ids', () => {
  const tokenizer = tokenizerOf({
    merges: [
      ['Ã', '©'],
      ['ð', 'Ł'],
    ], // é, and the first half of an emoji
    addedTokens: [{ content: '<e>' }],
  }); // prettier-ignore
  const rng = new Rng(7);
  const emoji = tokenizer.encode('🙂é€', 'parse');
  for (let round = 0; round < 3000; round++) {
    const ids = Array.from({ length: 1 + rng.below(12) }, () =>
      rng.below(2) === 0 ? [tokenId(rng.below(tokenizer.vocabularySize))] : emoji.slice(rng.below(3)),
    ).flat();
    const stream = tokenizer.streamDecoder();
    const texts = ids.map((id) => stream.push(id));
    assert.equal(texts.join('') + stream.flush(), tokenizer.decode(ids), ids.join());
  }
});

test('a stream holds an unfinished character back until it is whole', () => {
  const tokenizer = tokenizerOf({});
  const stream = tokenizer.streamDecoder();
  const texts = tokenizer.encode('a🙂', 'parse').map((id) => stream.push(id));
  assert.deepEqual(texts, ['a', '', '', '', '🙂']);
  assert.equal(stream.flush(), '');
  stream.push(tokenizer.encode('🙂', 'parse')[0]!);
  assert.equal(stream.flush(), '\ufffd');
});

test('ids of the model that the tokenizer lacks have no text, ids beyond it are refused', () => {
  const tokenizer = tokenizerOf({}, 300);
  assert.equal(tokenizer.vocabularySize, 300);
  assert.equal(tokenizer.decode([tokenId(299)]), '');
  assert.throws(() => tokenizer.bytesOf(tokenId(300)), { code: 'invalid_value' });
  assert.throws(() => tokenizer.decode([tokenId(-1)]), { code: 'invalid_value' });
});
