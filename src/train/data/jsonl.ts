import { createReadStream } from 'node:fs';
import { AppError } from '../../core/errors.js';
import { type DatasetKind, parseRow, type RowOf } from './rows.js';

/** A row and the line that it stood on, from 1. */
export interface NumberedRow<K extends DatasetKind = DatasetKind> {
  readonly line: number;
  readonly row: RowOf[K];
}

/** Longest line that is read: a row of a dataset is a few kilobytes; without a bound one missing newline would fill the memory. */
const LINE_BYTES = 16 << 20;
const NEWLINE = 10;
const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * The rows of a JSONL file, one at a time: memory holds a line and a read buffer, whatever the file's size. Empty lines are passed over.
 * @throws AppError `invalid_row` with the file, the line and the field; `not_found` where the file is absent
 */
export async function* readRows<K extends DatasetKind>(
  kind: K,
  path: string,
): AsyncGenerator<NumberedRow<K>> {
  try {
    for await (const { line, text } of readLines(path)) {
      if (text.trim() !== '') yield { line, row: parseRow(kind, text, line) };
    }
  } catch (thrown) {
    if (thrown instanceof AppError && thrown.code === 'invalid_row')
      throw new AppError('invalid_row', `${path}: ${thrown.message}`, {
        param: thrown.param ?? '',
        cause: thrown,
      });
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT')
      throw new AppError('not_found', `${path} is not there.`, { param: path, cause: thrown });
    throw thrown;
  }
}

async function* readLines(path: string): AsyncGenerator<{ readonly line: number; readonly text: string }> {
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  let line = 0;
  const take = (last: Uint8Array): string => {
    line++;
    const bytes = Buffer.concat([...pending, last]);
    pending = [];
    pendingBytes = 0;
    return decodeLine(bytes, line);
  };
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      yield { text: take(chunk.subarray(start, end)), line };
      start = end + 1;
    }
    pending.push(chunk.subarray(start));
    pendingBytes += chunk.length - start;
    if (pendingBytes > LINE_BYTES) throw broken(line + 1, `is longer than ${LINE_BYTES >> 20} MiB`);
  }
  if (pendingBytes > 0) yield { text: take(new Uint8Array()), line };
}

function decodeLine(bytes: Uint8Array, line: number): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw broken(line, 'is not UTF-8');
  }
}

const broken = (line: number, problem: string): AppError =>
  new AppError('invalid_row', `Line ${line} ${problem}.`, { param: `line ${line}` });
