import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rng } from '../../../src/core/rng.js';
import { StopMatcher } from '../../../src/models/stop-matcher.js';

const feed = (pieces: readonly string[], stops: readonly string[]) => {
  const matcher = new StopMatcher(stops);
  let text = '';
  for (const piece of pieces) {
    const matched = matcher.push(piece);
    text += matched.text;
    if (matched.stop !== null) return { text, stop: matched.stop };
  }
  return { text: text + matcher.flush(), stop: null };
};

test('a stop string across three pieces ends the text before it', () => {
  assert.deepEqual(feed(['Hello wo', 'r', 'ld!'], ['world']), { text: 'Hello ', stop: 'world' });
});

test('text that only looked like a stop string comes out whole', () => {
  assert.deepEqual(feed(['a\n', '\nb', '\n'], ['\n\n\n']), { text: 'a\n\nb\n', stop: null });
});

test('nothing that may be the start of a stop string is let out before its time', () => {
  const matcher = new StopMatcher(['abcd', 'bx']);
  assert.deepEqual(matcher.push('zabc'), { text: 'z', stop: null });
  assert.deepEqual(matcher.push('b'), { text: 'abc', stop: null });
  assert.deepEqual(matcher.push('x'), { text: '', stop: 'bx' });
});

test('the result does not depend on how the text is cut', () => {
  for (let round = 0; round < 2_000; round++) {
    const rng = new Rng(round);
    const random = (length: number) => Array.from({ length }, () => 'ab\n'[rng.below(3)]).join('');
    const text = random(20);
    const stops = Array.from({ length: 1 + rng.below(3) }, () => random(1 + rng.below(4)));
    const pieces: string[] = [];
    for (let at = 0; at < text.length; ) {
      const length = 1 + rng.below(5);
      pieces.push(text.slice(at, at + length));
      at += length;
    }
    assert.deepEqual(feed(pieces, stops), feed([...text], stops));
  }
});
