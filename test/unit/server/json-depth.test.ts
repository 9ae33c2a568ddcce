import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nestsDeeper } from '../../../src/server/json-depth.js';

test('levels are counted at their deepest, of arrays and objects alike', () => {
  assert.equal(nestsDeeper('{"a":[{"b":1}]}', 3), false);
  assert.equal(nestsDeeper('{"a":[{"b":1}]}', 2), true);
  assert.equal(nestsDeeper('[[],[],[],[]]', 2), false);
  assert.equal(nestsDeeper('['.repeat(65), 64), true);
});

test('brackets in strings do not count, escaped quotes do not end one', () => {
  assert.equal(nestsDeeper(JSON.stringify({ a: '[[[[', 'b"[[': '\\"[[', c: '\\' }), 1), false);
  assert.equal(nestsDeeper('["\\\\",[[]]]', 2), true);
  assert.equal(nestsDeeper('["never closed [[[[', 1), false);
});
