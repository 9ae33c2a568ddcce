import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { AppError } from '../../../../src/core/errors.js';
import { Checkpoint } from '../../../../src/models/checkpoint/checkpoint.js';
import { SafetensorsFile } from '../../../../src/models/checkpoint/safetensors.js';
import { SafetensorsWriter } from '../../../../src/models/checkpoint/safetensors-writer.js';

const directory = mkdtempSync(join(tmpdir(), 'instructd-safetensors-'));
after(() => rmSync(directory, { recursive: true }));

/** A file with this header and as many bytes of data. */
function fileOf(name: string, header: unknown, dataBytes: number): string {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const path = join(directory, name);
  writeFileSync(path, Buffer.concat([length, json, Buffer.alloc(dataBytes)]));
  return path;
}

const entry = (begin: number, end: number, dtype = 'F32', shape = [(end - begin) / 4]) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

const refusals: readonly [name: string, header: unknown, dataBytes: number, message: RegExp][] = [
  ['a truncated file', { a: entry(0, 16) }, 12, /truncated: its tensors need/],
  ['bytes after the last tensor', { a: entry(0, 16) }, 20, /4 bytes after its last tensor/],
  ['overlapping tensors', { a: entry(0, 16), b: entry(8, 24) }, 24, /"b" .*overlapping/],
  ['a gap between tensors', { a: entry(0, 8), b: entry(12, 16) }, 16, /"b" .*gap/],
  ['an unknown type', { a: entry(0, 16, 'F24') }, 16, /"a" in unknown type "F24"/],
  ['a shape that disagrees with the bytes', { a: entry(0, 16, 'F32', [5]) }, 16, /needs 20/],
  ['a negative size', { a: entry(0, 16, 'F32', [-4]) }, 16, /no valid shape/],
  ['offsets that run backwards', { a: entry(16, 0, 'F32', [4]) }, 16, /gives "a" -16 bytes/],
  ['a header that is not JSON', '{"a":', 0, /not JSON/],
  ['a header that is a list', [], 0, /not a JSON object/],
];

for (const [name, header, dataBytes, message] of refusals) {
  test(`${name} is refused as checkpoint_invalid`, () => {
    const path = fileOf('bad.safetensors', header, dataBytes);
    assert.throws(
      () => new SafetensorsFile(path),
      (error) =>
        error instanceof AppError && error.code === 'checkpoint_invalid' && message.test(error.message),
    );
  });
}

test('a header longer than the format allows is refused before it is read', () => {
  const path = join(directory, 'long.safetensors');
  const prefix = Buffer.alloc(64);
  prefix.writeBigUInt64LE(2n ** 40n);
  writeFileSync(path, prefix);
  assert.throws(() => new SafetensorsFile(path), /header of 1099511627776 bytes/);
  truncateSync(path, 4);
  assert.throws(() => new SafetensorsFile(path), /4 bytes long/);
});

test('what the writer commits reads back bit for bit, and nothing else is left in the directory', () => {
  const home = mkdtempSync(join(directory, 'written-'));
  const values = Float32Array.from([1, -2.5, 3e-8, 65504, 0.1, -0]);
  {
    using writer = new SafetensorsWriter(
      join(home, 'model.safetensors'),
      [
        { name: 'a', type: 'F32', shape: [2, 3] },
        { name: 'b', type: 'U8', shape: [3] },
      ],
      { format: 'pt' },
    );
    writer.write('b', Uint8Array.of(7, 8, 9));
    writer.write('a', values.subarray(3), 12);
    writer.write('a', values.subarray(0, 3));
    assert.deepEqual(
      readdirSync(home).filter((name) => name === 'model.safetensors'),
      [],
    );
    writer.commit();
  }
  assert.deepEqual(readdirSync(home), ['model.safetensors']);
  using checkpoint = Checkpoint.open(home);
  const back = new Float32Array(6);
  checkpoint.readFloats(checkpoint.require('a', [2, 3]), back);
  assert.deepEqual(back, values);
  checkpoint.readFloats(checkpoint.require('a', [2, 3]), back.subarray(0, 2), 4);
  assert.deepEqual([...back.subarray(0, 2)], [...values.subarray(4)]);
});

test('a writer that is not given every byte does not commit and leaves no file', () => {
  const home = mkdtempSync(join(directory, 'partial-'));
  {
    using writer = new SafetensorsWriter(join(home, 'x.safetensors'), [
      { name: 'a', type: 'F32', shape: [4] },
    ]);
    writer.write('a', new Float32Array(3));
    assert.throws(() => writer.commit(), /lacks 4 bytes/);
  }
  assert.deepEqual(readdirSync(home), []);
});

const writeOne = (home: string, file: string, name: string, data: Float32Array): void => {
  using writer = new SafetensorsWriter(join(home, file), [{ name, type: 'F32', shape: [data.length] }]);
  writer.write(name, data);
  writer.commit();
};

test('shards are read as one checkpoint; a shard that is missing or lacks its tensor is named', () => {
  const home = mkdtempSync(join(directory, 'shards-'));
  writeOne(home, 'model-1.safetensors', 'a', Float32Array.of(1, 2));
  writeOne(home, 'model-2.safetensors', 'b', Float32Array.of(3));
  const index = (map: object) =>
    writeFileSync(join(home, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
  index({ a: 'model-1.safetensors', b: 'model-2.safetensors' });
  {
    using checkpoint = Checkpoint.open(home);
    const b = new Float32Array(1);
    checkpoint.readFloats(checkpoint.require('b', [1]), b);
    assert.equal(b[0], 3);
  }
  index({ a: 'model-1.safetensors', b: 'model-3.safetensors' });
  assert.throws(() => Checkpoint.open(home), /model-3\.safetensors, which is not there/);
  index({ a: 'model-1.safetensors', b: 'model-1.safetensors' });
  assert.throws(() => Checkpoint.open(home), /places "b" in model-1/);
  index({ a: '../model-1.safetensors' });
  assert.throws(() => Checkpoint.open(home), /which is no file name/);
});

test('a NaN in a weight, a wrong shape and an absent tensor are named', () => {
  const home = mkdtempSync(join(directory, 'nan-'));
  writeOne(home, 'model.safetensors', 'a', Float32Array.of(1, Number.NaN));
  using checkpoint = Checkpoint.open(home);
  assert.throws(() => checkpoint.readFloats(checkpoint.require('a', [2]), new Float32Array(2)), /NaN .* "a"/);
  assert.throws(() => checkpoint.require('a', [3]), /shape \[2\] where config\.json asks for \[3\]/);
  assert.throws(() => checkpoint.require('b', [1]), /lacks the tensor "b"/);
});

test('a directory without safetensors says what to do', () => {
  const home = mkdtempSync(join(directory, 'empty-'));
  assert.throws(() => Checkpoint.open(home), /converted to safetensors/);
});
