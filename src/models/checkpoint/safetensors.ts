/**
 * One file of tensors. Only its header is read at open, and checked for everything that could make a later read wrong.
 * Format: 8 bytes header length (little endian), JSON header, then the tensors' bytes without gaps.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { AppError } from '../../core/errors.js';

/** Bytes an element of each type of the format. */
const elementBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
} as const;

export type StoredType = keyof typeof elementBytes;
const isStoredType = (name: unknown): name is StoredType =>
  typeof name === 'string' && Object.hasOwn(elementBytes, name);

/** Where a tensor's bytes lie. */
export interface StoredTensor {
  readonly name: string;
  readonly type: StoredType;
  readonly shape: readonly number[];
  readonly file: string;
  /** From the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

export const elementCount = (shape: readonly number[]): number =>
  shape.reduce((product, size) => product * size, 1);

export const storedBytes = (type: StoredType, shape: readonly number[]): number =>
  elementCount(shape) * elementBytes[type];

/** The reference implementation's own limit. */
const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;

/** What is wrong with a checkpoint's file, with the way out. */
export const invalid = (file: string, problem: string): AppError =>
  new AppError('checkpoint_invalid', `${file}: ${problem}. Download or export the checkpoint again.`, {
    param: file,
  });

function readFully(fd: number, file: string, into: Uint8Array, position: number): void {
  let done = 0;
  while (done < into.byteLength) {
    const count = readSync(fd, into, done, into.byteLength - done, position + done);
    if (count === 0) throw invalid(file, `ends at byte ${position + done}, in the middle of a tensor`);
    done += count;
  }
}

function readHeader(fd: number, file: string, fileBytes: number): { json: string; dataOffset: number } {
  if (fileBytes < LENGTH_BYTES) throw invalid(file, `is ${fileBytes} bytes long, too short for a header`);
  const prefix = new Uint8Array(LENGTH_BYTES);
  readFully(fd, file, prefix, 0);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw invalid(file, `claims a header of ${length} bytes, over the format's limit of ${MAX_HEADER_BYTES}`);
  }
  const headerBytes = Number(length);
  if (LENGTH_BYTES + headerBytes > fileBytes) {
    throw invalid(
      file,
      `is truncated: its header needs ${LENGTH_BYTES + headerBytes} bytes, the file has ${fileBytes}`,
    );
  }
  const header = new Uint8Array(headerBytes);
  readFully(fd, file, header, LENGTH_BYTES);
  return { json: new TextDecoder().decode(header), dataOffset: LENGTH_BYTES + headerBytes };
}

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function parseEntry(file: string, dataOffset: number, name: string, entry: unknown): StoredTensor {
  if (typeof entry !== 'object' || entry === null) throw invalid(file, `has a broken entry for "${name}"`);
  const { dtype, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  if (!isStoredType(dtype)) throw invalid(file, `stores "${name}" in unknown type ${JSON.stringify(dtype)}`);
  if (!Array.isArray(shape) || !shape.every(isSize)) throw invalid(file, `gives "${name}" no valid shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw invalid(file, `gives "${name}" no valid data_offsets`);
  }
  const [begin, end] = offsets as [number, number];
  const byteLength = storedBytes(dtype, shape);
  if (end - begin !== byteLength) {
    throw invalid(
      file,
      `gives "${name}" ${end - begin} bytes; ${dtype} [${shape.join(', ')}] needs ${byteLength}`,
    );
  }
  return { name, type: dtype, shape, file, offset: dataOffset + begin, byteLength };
}

/** Tensors must fill the data section exactly: neither overlap nor gap nor rest. */
function checkExtents(
  file: string,
  tensors: readonly StoredTensor[],
  dataOffset: number,
  fileBytes: number,
): void {
  let expected = dataOffset;
  const byOffset = [...tensors].sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  for (const { name, offset, byteLength } of byOffset) {
    if (offset !== expected) {
      throw invalid(
        file,
        `places "${name}" at byte ${offset}, ${offset < expected ? 'overlapping the tensor before it' : `after a gap from byte ${expected}`}`,
      );
    }
    expected = offset + byteLength;
  }
  if (expected > fileBytes) {
    throw invalid(file, `is truncated: its tensors need ${expected} bytes, the file has ${fileBytes}`);
  }
  if (expected < fileBytes) throw invalid(file, `has ${fileBytes - expected} bytes after its last tensor`);
}

/** One open file of tensors. */
export class SafetensorsFile implements Disposable {
  readonly file: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly #fd: number;

  /** Opens and validates the header. Throws `checkpoint_invalid`. */
  constructor(file: string) {
    this.file = file;
    this.#fd = openSync(file, 'r');
    try {
      const fileBytes = fstatSync(this.#fd).size;
      const { json, dataOffset } = readHeader(this.#fd, file, fileBytes);
      const header = parseJsonObject(file, json);
      const { __metadata__: metadata = {}, ...entries } = header;
      this.metadata = metadata as Record<string, string>;
      const tensors = Object.entries(entries).map(([name, entry]) =>
        parseEntry(file, dataOffset, name, entry),
      );
      checkExtents(file, tensors, dataOffset, fileBytes);
      this.tensors = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  /** Raw bytes of a tensor from `byteOffset` on. */
  readBytes(tensor: StoredTensor, into: Uint8Array, byteOffset = 0): void {
    readFully(this.#fd, this.file, into, tensor.offset + byteOffset);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

export function parseJsonObject(file: string, json: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (cause) {
    throw new AppError('checkpoint_invalid', `${file}: its header is not JSON.`, { param: file, cause });
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw invalid(file, 'has a header that is not a JSON object');
  }
  return parsed as Record<string, unknown>;
}
