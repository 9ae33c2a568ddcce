import { MessageChannel } from 'node:worker_threads';
import koffi from 'koffi';
import { AppError } from '../../core/errors.js';
import type { Pointer } from './ort-api.js';

/**
 * A block of device memory with one owner. Disposal during an asynchronous run takes effect when the run ends: `hold` and `unhold`
 * bracket the run, and the block is refused to everybody else from the moment of disposal.
 */
export interface Memory extends Disposable {
  readonly byteLength: number;
  /** ONNX Runtime's name of the place. */
  readonly info: Pointer<'OrtMemoryInfo'>;
  readonly address: bigint;
  /** Where the CPU can touch it: the buffer and where the block starts in it. */
  readonly host: { readonly buffer: ArrayBuffer; readonly byteOffset: number } | null;
  readonly disposed: boolean;
  hold(): void;
  unhold(): void;
  write(byteOffset: number, from: Uint8Array): void;
  read(byteOffset: number, into: Uint8Array): void;
  /** @throws AppError `runtime_failed` where `source` is on another device */
  copyFrom(source: Memory, runs: ByteRuns): void;
  zero(byteOffset: number, byteLength: number): void;
}

/** `CopyRuns` in bytes. */
export interface ByteRuns {
  readonly count: number;
  readonly length: number;
  readonly from: ByteRunPlaces;
  readonly to: ByteRunPlaces;
}

export interface ByteRunPlaces {
  readonly offset: number;
  readonly stride: number;
}

export const elsewhere = (): AppError =>
  new AppError(
    'runtime_failed',
    'A tensor can be copied from one on the same device only; use read and write.',
  );

/** The life of a block: alive, disposed while runs hold it, freed. */
export class Lifetime {
  #holds = 0;
  #disposed = false;
  readonly #free: () => void;

  constructor(free: () => void) {
    this.#free = free;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  hold(): void {
    this.#holds++;
  }

  unhold(): void {
    this.#holds--;
    if (this.#disposed && this.#holds === 0) this.#free();
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#holds === 0) this.#free();
  }
}

/** A cache line, and the widest vector of the CPUs that ONNX Runtime has kernels for. */
const ALIGNMENT = 64;

// Transferring to a closed port detaches a buffer and frees its pages now; the garbage collector would take its time.
const { port1: closedPort, port2 } = new MessageChannel();
closedPort.close();
port2.close();

/**
 * Zero-filled CPU memory, aligned to 64 bytes. It belongs to JavaScript, so that an array somebody kept becomes empty at disposal and
 * never a dangling pointer, and a worker thread that is terminated leaks none of it. Pages are committed when first written.
 */
export class HostMemory implements Memory {
  readonly byteLength: number;
  readonly info: Pointer<'OrtMemoryInfo'>;
  readonly address: bigint;
  readonly host: { readonly buffer: ArrayBuffer; readonly byteOffset: number };
  readonly #lifetime: Lifetime;

  constructor(info: Pointer<'OrtMemoryInfo'>, byteLength: number, onFree: () => void) {
    const buffer = allocateBuffer(byteLength + ALIGNMENT);
    const start = koffi.address(buffer);
    const byteOffset = Number(-start & BigInt(ALIGNMENT - 1));
    this.info = info;
    this.byteLength = byteLength;
    this.address = start + BigInt(byteOffset);
    this.host = { buffer, byteOffset };
    this.#lifetime = new Lifetime(() => {
      closedPort.postMessage(null, [buffer]);
      onFree();
    });
  }

  get disposed(): boolean {
    return this.#lifetime.disposed;
  }

  hold(): void {
    this.#lifetime.hold();
  }

  unhold(): void {
    this.#lifetime.unhold();
  }

  write(byteOffset: number, from: Uint8Array): void {
    this.#bytes(byteOffset, from.byteLength).set(from);
  }

  read(byteOffset: number, into: Uint8Array): void {
    into.set(this.#bytes(byteOffset, into.byteLength));
  }

  copyFrom(source: Memory, { count, length, from, to }: ByteRuns): void {
    if (source.host === null) throw elsewhere();
    const there = new Uint8Array(source.host.buffer, source.host.byteOffset);
    const here = new Uint8Array(this.host.buffer, this.host.byteOffset);
    for (let run = 0; run < count; run++) {
      const start = from.offset + run * from.stride;
      here.set(there.subarray(start, start + length), to.offset + run * to.stride);
    }
  }

  zero(byteOffset: number, byteLength: number): void {
    this.#bytes(byteOffset, byteLength).fill(0);
  }

  [Symbol.dispose](): void {
    this.#lifetime.dispose();
  }

  #bytes(byteOffset: number, length: number): Uint8Array {
    return new Uint8Array(this.host.buffer, this.host.byteOffset + byteOffset, length);
  }
}

function allocateBuffer(byteLength: number): ArrayBuffer {
  try {
    return new ArrayBuffer(byteLength);
  } catch (cause) {
    throw new AppError('out_of_memory', `Allocating ${byteLength} bytes on the CPU failed.`, { cause });
  }
}
