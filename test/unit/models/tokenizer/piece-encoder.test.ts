import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../../src/core/rng.js';
import { PieceEncoder } from '../../../../src/models/tokenizer/piece-encoder.js';
import { parseTokenizerFile } from '../../../../src/models/tokenizer/tokenizer-file.js';
import { smallTokenizerFile } from './small-tokenizer.js';

type Pair = readonly [string, string];

/** The definition, word for word: the best pair of the list, leftmost, until none is left. */
function mergeByDefinition(piece: string, merges: readonly Pair[]): string[] {
  const symbols = [...piece];
  for (;;) {
    let best: { readonly rank: number; readonly at: number } | null = null;
    for (let at = 0; at + 1 < symbols.length; at++) {
      const rank = merges.findLastIndex(([left, right]) => left === symbols[at] && right === symbols[at + 1]);
      if (rank >= 0 && (best === null || rank < best.rank)) best = { rank, at };
    }
    if (best === null) return symbols;
    symbols.splice(best.at, 2, symbols[best.at]! + symbols[best.at + 1]!);
  }
}

/** Any merges over a few letters, not only those that training would give: parts may be made after they are used. */
function randomMerges(rng: Rng, count: number): Pair[] {
  const tokens = ['a', 'b', 'c'];
  const merges: Pair[] = [];
  for (let index = 0; index < count; index++) {
    const pair: Pair = [tokens[rng.below(tokens.length)]!, tokens[rng.below(tokens.length)]!];
    if (pair.join('').length > 12 || merges.some(([left, right]) => left === pair[0] && right === pair[1]))
      continue;
    merges.push(pair);
    tokens.push(pair.join(''));
  }
  for (let index = merges.length - 1; index > 0; index--) {
    const other = rng.below(4) === 0 ? rng.below(index + 1) : index;
    [merges[index], merges[other]] = [merges[other]!, merges[index]!];
  }
  return merges;
}

const letters = (rng: Rng, length: number): string =>
  Array.from({ length }, () => 'abc'[rng.below(3)]!).join('');

test('tiktoken with the derived ranks merges as the file says, for any list of merges', () => {
  const rng = new Rng(41);
  let unreachable = 0;
  for (let table = 0; table < 150; table++) {
    const merges = randomMerges(rng, 4 + rng.below(24));
    const file = parseTokenizerFile(smallTokenizerFile({ merges, extra: ['abca', 'cab', 'bb'] }));
    const encoder = new PieceEncoder(file);
    for (const entry of ['abca', 'cab', 'bb']) if (mergeByDefinition(entry, merges).length > 1) unreachable++;
    for (let index = 0; index < 40; index++) {
      const piece = letters(rng, 1 + rng.below(24));
      const expected = mergeByDefinition(piece, merges).map((entry) => file.vocabulary[entry]);
      assert.deepEqual(encoder.encode(piece), expected, `${piece} by ${JSON.stringify(merges)}`);
    }
  }
  assert.ok(unreachable > 100, 'the tables hold tokens that no merge reaches');
});

test('a piece too long for tiktoken is merged by the same rules', () => {
  const rng = new Rng(42);
  for (let table = 0; table < 10; table++) {
    const merges = randomMerges(rng, 20);
    const file = parseTokenizerFile(smallTokenizerFile({ merges }));
    const piece = letters(rng, 700);
    const expected = mergeByDefinition(piece, merges).map((entry) => file.vocabulary[entry]);
    assert.deepEqual(new PieceEncoder(file).encode(piece), expected);
  }
});

test('half a million equal letters take less than five seconds', () => {
  const file = parseTokenizerFile(
    smallTokenizerFile({
      merges: [
        ['a', 'a'],
        ['aa', 'aa'],
        ['aaaa', 'aaaa'],
      ],
    }),
  ); // prettier-ignore
  const started = performance.now();
  assert.equal(new PieceEncoder(file).encode('a'.repeat(500_000)).length, 62_500);
  assert.ok(performance.now() - started < 5000);
});

test('ignore_merges finds a whole piece that no merge reaches, and only a whole piece', () => {
  const merges: Pair[] = [['a', 'b']];
  const file = parseTokenizerFile(
    smallTokenizerFile({ merges, extra: ['abcd'], model: { ignore_merges: true } }),
  );
  const encoder = new PieceEncoder(file);
  const ids = (...entries: string[]) => entries.map((entry) => file.vocabulary[entry]);
  assert.deepEqual(encoder.encode('abcd'), ids('abcd'));
  assert.deepEqual(encoder.encode('abcda'), ids('ab', 'c', 'd', 'a'));
});

test('ignore_merges is refused where tiktoken would merge a pair that the file does not list', () => {
  const file = parseTokenizerFile(smallTokenizerFile({ extra: ['ab'], model: { ignore_merges: true } }));
  assert.throws(() => new PieceEncoder(file), {
    code: 'tokenizer_not_supported',
    param: 'model.ignore_merges',
  });
});

test('a merge of something outside the vocabulary is refused by its number', () => {
  const small = smallTokenizerFile({ merges: [['a', 'b']] });
  const file = parseTokenizerFile(small);
  const broken = { ...file, merges: [...file.merges, ['ab', 'zz'] as const] };
  assert.throws(() => new PieceEncoder(broken), { code: 'tokenizer_not_supported', param: 'model.merges.1' });
});
