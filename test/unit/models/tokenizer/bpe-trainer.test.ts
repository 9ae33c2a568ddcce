import assert from 'node:assert/strict';
import { test } from 'node:test';
import { trainBpe } from '../../../../src/models/tokenizer/bpe-trainer.js';

test('merges of the classic example come in order of count', () => {
  const words = [
    ...Array(5).fill('low'),
    ...Array(2).fill('lower'),
    ...Array(6).fill('newest'),
    ...Array(3).fill('widest'),
  ];
  const { merges } = trainBpe(words, { vocabularySize: 256 + 4, specialTokens: [] });
  // es 9, then est 9, then lo 7, low 7: counts of Sennrich et al. 2016, Algorithm 1 without the end-of-word mark.
  assert.deepEqual(
    merges.map((pair) => pair.join('+')),
    ['e+s', 'es+t', 'l+o', 'lo+w'],
  );
});

test('the vocabulary has every byte once, the merges, and the special tokens last', () => {
  const { vocabulary, merges } = trainBpe(['aaaa bbbb aaaa'], {
    vocabularySize: 260,
    specialTokens: ['<|end|>'],
  });
  assert.equal(vocabulary.size, 256 + merges.length + 1);
  assert.equal(vocabulary.get('<|end|>'), vocabulary.size - 1);
  assert.ok(merges.every(([left, right]) => vocabulary.has(left + right)));
});

test('a pair seen once is not merged', () => {
  assert.deepEqual(trainBpe(['xyz'], { vocabularySize: 300, specialTokens: [] }).merges, []);
});
