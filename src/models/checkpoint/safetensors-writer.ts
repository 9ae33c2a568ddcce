/** Writing a safetensors file: shapes first, then bytes in any order; the file appears under its name whole or not at all. */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type StoredType, storedBytes } from './safetensors.js';

export interface TensorLayout {
  readonly name: string;
  readonly type: StoredType;
  readonly shape: readonly number[];
}

/** Data starts here after the file's start, so that mapped tensors keep the alignment that vector loads like. */
const ALIGNMENT = 64;

export class SafetensorsWriter implements Disposable {
  readonly path: string;
  readonly #temporary: string;
  readonly #fd: number;
  readonly #extents = new Map<string, { readonly offset: number; readonly byteLength: number }>();
  readonly #dataOffset: number;
  /** Bytes of tensors not written yet: a commit needs all of them. */
  #missing: number;
  #committed = false;

  /** Tensors come in the order given; the file is created with its full length at once under a temporary name. */
  constructor(
    path: string,
    tensors: readonly TensorLayout[],
    metadata: Readonly<Record<string, string>> = {},
  ) {
    this.path = path;
    mkdirSync(dirname(path), { recursive: true });
    this.#temporary = join(dirname(path), `.${basename(path)}.${process.pid}.${performance.now()}.partial`);
    let end = 0;
    const header: Record<string, unknown> = { __metadata__: metadata };
    for (const { name, type, shape } of tensors) {
      const byteLength = storedBytes(type, shape);
      this.#extents.set(name, { offset: end, byteLength });
      header[name] = { dtype: type, shape, data_offsets: [end, end + byteLength] };
      end += byteLength;
    }
    const json = Buffer.from(JSON.stringify(header));
    const padded = Math.ceil((8 + json.length) / ALIGNMENT) * ALIGNMENT - 8;
    const start = Buffer.alloc(8 + padded, ' ');
    start.writeBigUInt64LE(BigInt(padded), 0);
    json.copy(start, 8);
    this.#fd = openSync(this.#temporary, 'w');
    this.#dataOffset = start.length;
    writeFully(this.#fd, start, 0);
    this.#missing = end;
  }

  /** Bytes of a tensor from `byteOffset` on; each byte once. */
  write(name: string, data: ArrayBufferView, byteOffset = 0): void {
    const extent = this.#extents.get(name);
    if (extent === undefined) throw new Error(`"${name}" is not a tensor of ${this.path}`);
    if (byteOffset + data.byteLength > extent.byteLength) {
      throw new Error(
        `"${name}" has ${extent.byteLength} bytes; ${byteOffset + data.byteLength} were written`,
      );
    }
    writeFully(
      this.#fd,
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      this.#dataOffset + extent.offset + byteOffset,
    );
    this.#missing -= data.byteLength;
  }

  /** Bytes on disk, then the name, then the directory entry on disk. */
  commit(): void {
    if (this.#missing !== 0) throw new Error(`${this.path} lacks ${this.#missing} bytes of its tensors`);
    fsyncSync(this.#fd);
    closeSync(this.#fd);
    this.#committed = true;
    renameSync(this.#temporary, this.path);
    const directory = openSync(dirname(this.path), 'r');
    fsyncSync(directory);
    closeSync(directory);
  }

  /** Without a commit nothing is left behind. */
  [Symbol.dispose](): void {
    if (this.#committed) return;
    closeSync(this.#fd);
    rmSync(this.#temporary, { force: true });
  }
}

function writeFully(fd: number, data: Uint8Array, position: number): void {
  let done = 0;
  while (done < data.byteLength) {
    done += writeSync(fd, data, done, data.byteLength - done, position + done);
  }
}
