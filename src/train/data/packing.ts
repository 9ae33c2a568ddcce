import type { Example } from './examples.js';

/**
 * Documents one after the other, cut into rows of one length in which every token is learned: no padding. What is left at the end is
 * dropped.
 * @param documents token ids, each with its end of text
 * @param length tokens of a row
 */
export function packDocuments(documents: Iterable<readonly number[]>, length: number): Example[] {
  const rows: Example[] = [];
  let row = new Int32Array(length);
  let filled = 0;
  for (const document of documents) {
    for (const token of document) {
      row[filled++] = token;
      if (filled < length) continue;
      rows.push({ tokens: row, start: 1 });
      row = new Int32Array(length);
      filled = 0;
    }
  }
  return rows;
}
