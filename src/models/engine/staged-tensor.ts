import type { DeviceTensor, HostArrayOf, Runtime } from '../runtime/session.js';

type StagedType = 'int64' | 'int32' | 'float32';

/**
 * A tensor in the memory of the device that runs read or write at one address for good, and its host side. On the CPU the two are the
 * same memory and nothing is copied.
 */
export class StagedTensor<E extends StagedType> implements Disposable {
  readonly tensor: DeviceTensor<E>;
  readonly #staging: DeviceTensor<E> | null;

  constructor(runtime: Runtime, type: E, shape: readonly number[]) {
    this.tensor = runtime.allocate(type, shape);
    this.#staging = this.tensor.host === null ? runtime.allocateHost(type, shape) : null;
  }

  /** The host side, all of it. */
  get values(): HostArrayOf[E] {
    return (this.#staging ?? this.tensor).host as HostArrayOf[E];
  }

  /** The first `count` elements of the host side are there for the next run. */
  send(count: number): void {
    if (this.#staging !== null) this.tensor.view([count]).write(this.#range(0, count));
  }

  /** What runs wrote into elements [from, from + count), as a part of `values`. */
  fetch(from: number, count: number): HostArrayOf[E] {
    const range = this.#range(from, count);
    if (this.#staging !== null) this.tensor.view([count], from).read(range);
    return range;
  }

  [Symbol.dispose](): void {
    this.tensor[Symbol.dispose]();
    this.#staging?.[Symbol.dispose]();
  }

  #range(from: number, count: number): HostArrayOf[E] {
    return this.values.subarray(from, from + count) as HostArrayOf[E];
  }
}

/** Rows of float32 [rows, width] one after the other, each as an array of its own over the same memory. */
export const rowsOf = (values: Float32Array, width: number): Float32Array[] =>
  Array.from({ length: values.length / width }, (_, row) => values.subarray(row * width, (row + 1) * width));
