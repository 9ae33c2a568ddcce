import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Schemas } from '../../../src/server/contract.js';
import { ResponseStore } from '../../../src/server/response-store.js';

const entry = (id: string, characters = 1) => ({
  response: { id } as Schemas['Response'],
  messages: [{ role: 'user', content: 'x'.repeat(characters) }],
});
const has = (store: ResponseStore, id: string) => {
  try {
    return store.get(id, 'id').response.id === id;
  } catch {
    return false;
  }
};

test('the least recently used response goes first', () => {
  const store = new ResponseStore({ entries: 2, characters: 100 });
  store.put(entry('a'));
  store.put(entry('b'));
  store.get('a', 'id');
  store.put(entry('c'));
  assert.deepEqual([has(store, 'a'), has(store, 'b'), has(store, 'c')], [true, false, true]);
});

test('the texts of all stay within the bound', () => {
  const store = new ResponseStore({ entries: 100, characters: 10 });
  store.put(entry('a', 6));
  store.put(entry('b', 6));
  assert.deepEqual([has(store, 'a'), has(store, 'b')], [false, true]);
  store.put(entry('too long', 11));
  assert.deepEqual([has(store, 'b'), has(store, 'too long')], [false, false]);
  store.put(entry('c', 10));
  assert.ok(has(store, 'c'));
});

test('an unknown response is named with the field that asked for it', () => {
  const store = new ResponseStore({ entries: 1, characters: 1 });
  assert.throws(() => store.get('resp_x', 'previous_response_id'), {
    code: 'not_found',
    param: 'previous_response_id',
  });
  assert.throws(() => store.delete('resp_x'), { code: 'not_found' });
});
