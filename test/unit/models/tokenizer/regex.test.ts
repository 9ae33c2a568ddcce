import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toJavaScriptPattern } from '../../../../src/models/tokenizer/regex.js';

const matches = (pattern: string, text: string): string[] => text.match(toJavaScriptPattern(pattern)) ?? [];

test('whitespace is White_Space of Unicode: with U+0085, without U+FEFF', () => {
  assert.deepEqual(matches('\\s', ' \u0085\ufeff\u3000'), [' ', '\u0085', '\u3000']);
  assert.deepEqual(matches('[^\\s]', ' \u0085\ufeff'), ['\ufeff']);
});

test('a case-insensitive group folds its letters and no others', () => {
  assert.deepEqual(matches("(?i:'s|'ll)|x", "'s 'S 'ſ 'lL x X"), ["'s", "'S", "'ſ", "'lL", 'x']);
  assert.deepEqual(matches("'(?i:[sdmt])", "'S'd'x"), ["'S", "'d"]);
});

test('a dot stops at the line feed only', () => {
  assert.deepEqual(matches('.+', 'a\rb\u2028c\nd'), ['a\rb\u2028c', 'd']);
});

test('scripts and code points keep their meaning', () => {
  assert.deepEqual(matches('\\p{Han}+', 'ab中文c'), ['中文']);
  assert.deepEqual(matches('[\\x{4e2d}\\u6587]', 'ab中文c'), ['中', '文']);
  assert.deepEqual(matches('\\p{^L}', 'a1'), ['1']);
});

test('what JavaScript would read differently is refused', () => {
  for (const pattern of [
    'a++',
    'a*+',
    '^a',
    'a$',
    '\\bx',
    '(?>a)',
    '[a[b]]',
    '[a&&b]',
    '\\h',
    '(?<n>a)',
    '(?i:é)',
    '(?i:[a-z])',
    '(?i:\\p{Lu})',
    'a{,2}',
    '(a',
  ]) {
    assert.throws(() => toJavaScriptPattern(pattern), { code: 'tokenizer_not_supported' }, pattern);
  }
}); // prettier-ignore
