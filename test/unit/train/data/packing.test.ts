import assert from 'node:assert/strict';
import { test } from 'node:test';
import { packDocuments } from '../../../../src/train/data/packing.js';

test('documents run on over the ends of rows, every token is learned, and an unfilled row is dropped', () => {
  const rows = packDocuments([[1, 2, 9], [3, 4, 5, 6, 9], [7]], 4);
  assert.deepEqual(
    rows.map(({ tokens, start }) => [[...tokens], start]),
    [
      [[1, 2, 9, 3], 1],
      [[4, 5, 6, 9], 1],
    ],
  );
});

test('a document longer than several rows fills them all', () => {
  assert.equal(packDocuments([Array.from({ length: 25 }, (_, i) => i)], 8).length, 3);
});
