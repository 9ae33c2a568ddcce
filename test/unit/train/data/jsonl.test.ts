import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { AppError } from '../../../../src/core/errors.js';
import { type NumberedRow, readRows } from '../../../../src/train/data/jsonl.js';

const directory = mkdtempSync(join(tmpdir(), 'instructd-jsonl-'));
after(() => rmSync(directory, { recursive: true, force: true }));

let files = 0;
const fileOf = (content: string | Uint8Array): string => {
  const path = join(directory, `${files++}.jsonl`);
  writeFileSync(path, content);
  return path;
};

async function all(path: string): Promise<NumberedRow<'pretraining'>[]> {
  const rows: NumberedRow<'pretraining'>[] = [];
  for await (const row of readRows('pretraining', path)) rows.push(row);
  return rows;
}

const refusal = async (path: string): Promise<AppError> => {
  try {
    await all(path);
  } catch (error) {
    assert.ok(error instanceof AppError, String(error));
    return error;
  }
  throw new Error('taken');
};

test('lines are counted with the empty ones, and a last line needs no newline', async () => {
  const rows = await all(fileOf('{"text":"a"}\r\n\n\n{"text":"é"}'));
  assert.deepEqual(
    rows.map(({ line, row }) => [line, row.text]),
    [
      [1, 'a'],
      [4, 'é'],
    ],
  );
});

test('a line longer than a read buffer and a character on its edge come through whole', async () => {
  const text = `${'x'.repeat(65_529)}€${'y'.repeat(200_000)}`;
  const rows = await all(fileOf(`${JSON.stringify({ text })}\n{"text":"b"}\n`));
  assert.deepEqual([rows[0]?.row.text === text, rows[1]?.row.text], [true, 'b']);
});

test('a broken row is named by file, line and field', async () => {
  const path = fileOf('{"text":"a"}\n{"text":7}\n');
  const { code, message, param } = await refusal(path);
  assert.deepEqual([code, param], ['invalid_row', 'line 2: text']);
  assert.ok(message.includes(path) && message.includes('Line 2'));
});

test('bytes that are not UTF-8 are refused by line, an absent file by name', async () => {
  const bytes = await refusal(
    fileOf(Buffer.concat([Buffer.from('{"text":"a"}\n{"text":"'), Buffer.from([0xff, 10])])),
  );
  assert.deepEqual([bytes.code, bytes.param], ['invalid_row', 'line 2']);
  assert.equal((await refusal(join(directory, 'absent.jsonl'))).code, 'not_found');
});

test('a line without an end stops at 16 MiB', async () => {
  const { message } = await refusal(fileOf(Buffer.alloc(20 << 20, 'x')));
  assert.match(message, /Line 1 is longer than 16 MiB/);
});
