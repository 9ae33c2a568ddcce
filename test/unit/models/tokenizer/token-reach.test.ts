import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../../src/core/rng.js';
import { ByteLevelTokenizer } from '../../../../src/models/tokenizer/byte-level-tokenizer.js';
import { TokenReach } from '../../../../src/models/tokenizer/token-reach.js';
import { parseTokenizerFile } from '../../../../src/models/tokenizer/tokenizer-file.js';
import { type SmallTokenizer, smallTokenizerFile } from './small-tokenizer.js';

const tokenizerOf = (small: SmallTokenizer): ByteLevelTokenizer =>
  new ByteLevelTokenizer(parseTokenizerFile(smallTokenizerFile(small)), {
    beginOfText: null,
    endOfText: new Set(),
    modelVocabularySize: 0,
  });

const randomText = (rng: Rng, alphabet: string, length: number): string =>
  Array.from({ length }, () => alphabet[rng.below(alphabet.length)]).join('');

/** By dynamic programming over all ways to cut the text into tokens. */
function fewestOf(tokens: readonly string[], text: string): number {
  const fewest = [0];
  for (let end = 1; end <= text.length; end++) {
    const fitting = tokens.filter((token) => text.slice(0, end).endsWith(token));
    fewest.push(1 + Math.min(...fitting.map((token) => fewest[end - token.length]!)));
  }
  return fewest.at(-1)!;
}

test('no way to cut a text into tokens takes fewer than the bound', () => {
  const rng = new Rng(1);
  const tokens = ['a', 'b', 'c', 'aa', 'ab', 'aab', 'bca', 'ccccc'];
  const reach = new TokenReach(tokens.map((token) => Buffer.from(token)));
  for (let round = 0; round < 500; round++) {
    const text = randomText(rng, 'abc', 1 + rng.below(40));
    const bound = reach.fewest(Buffer.from(text), Number.POSITIVE_INFINITY);
    assert.ok(bound <= fewestOf(tokens, text), text);
  }
  assert.equal(reach.fewest(Buffer.from('ccccc'.repeat(7)), 100), 7);
});

test('the bound of a tokenizer is never over what it encodes, also where it normalises and adds tokens', () => {
  const rng = new Rng(2);
  const merges = [
    ['a', 'a'],
    ['aa', 'aa'],
    ['Ġ', 'Ġ'],
    ['Ã', '©'],
  ] as const;
  const normalising = tokenizerOf({
    merges,
    file: { normalizer: { type: 'NFC' } },
    addedTokens: [{ content: 'cafe\u0301<x>', special: false }],
  });
  for (const tokenizer of [tokenizerOf({ merges }), normalising]) {
    for (let round = 0; round < 500; round++) {
      const text = randomText(rng, 'aaaae\u0301 é<x>cf😀', rng.below(60));
      const count = tokenizer.encode(text, 'as_text').length;
      assert.ok(tokenizer.fewestTokens(text, 1000) <= count, JSON.stringify(text));
      // Where the walk ends early, the bound still holds.
      for (const most of [0, 1, 5])
        assert.ok(tokenizer.fewestTokens(text, most) <= Math.min(count, most + 1));
    }
  }
});

test('bytes without a token vanish and do not count', () => {
  const file = smallTokenizerFile({ merges: [['a', 'a']] });
  const { vocab, ...model } = file.model as { readonly vocab: Record<string, number> };
  const { z: _, ...rest } = vocab;
  const ids = Object.fromEntries(Object.keys(rest).map((entry, id) => [entry, id]));
  const tokenizer = new ByteLevelTokenizer(parseTokenizerFile({ ...file, model: { ...model, vocab: ids } }), {
    beginOfText: null,
    endOfText: new Set(),
    modelVocabularySize: 0,
  });
  const text = 'zzazazzzaz';
  assert.equal(tokenizer.encode(text, 'as_text').length, 2);
  assert.equal(tokenizer.fewestTokens(text, 100), 2);
});

test('where text may vanish there is no bound', () => {
  const strips = tokenizerOf({ addedTokens: [{ content: '<l>', lstrip: true }] });
  assert.equal(strips.encode(`${' '.repeat(500)}<l>`, 'parse').length, 1);
  assert.equal(strips.fewestTokens(' '.repeat(500), 100), 0);
});

test('megabytes of any text are refused in a fraction of a second', () => {
  const tokenizer = tokenizerOf({ merges: [['a', 'a']] });
  for (const text of ['a'.repeat(8e6), ' '.repeat(8e6), '漢'.repeat(5e6)]) {
    const started = performance.now();
    assert.equal(tokenizer.fewestTokens(text, 2048), 2049);
    assert.ok(performance.now() - started < 500);
  }
});
