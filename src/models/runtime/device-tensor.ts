import { AppError } from '../../core/errors.js';
import { checkShape, describe, elementBytes, elementCount, hostArray, onnxCode } from './element-type.js';
import type { ByteRunPlaces, Memory } from './memory.js';
import { created, type OrtApi, type Pointer } from './ort-api.js';
import type { CopyRuns, DeviceTensor, ElementType, HostArrayOf, RunPlaces } from './session.js';

/**
 * A type and a shape over a block of memory. It has no native handle of its own: an OrtValue is made when it is bound, and the binding
 * keeps that. So views cost nothing but their object.
 */
export class OrtTensor<E extends ElementType = ElementType> implements DeviceTensor<E> {
  readonly type: E;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly memory: Memory;
  readonly #byteOffset: number;
  readonly #ownsMemory: boolean;
  #disposed = false;
  #host: HostArrayOf[E] | null = null;

  private constructor(type: E, shape: readonly number[], memory: Memory, byteOffset: number, owns: boolean) {
    this.type = type;
    this.shape = Object.freeze([...shape]);
    this.byteLength = elementCount(shape) * elementBytes(type);
    this.memory = memory;
    this.#byteOffset = byteOffset;
    this.#ownsMemory = owns;
  }

  /** @param place Makes the memory; the tensor owns it. */
  static allocate<E extends ElementType>(
    type: E,
    shape: readonly number[],
    place: (byteLength: number) => Memory,
  ): OrtTensor<E> {
    checkShape(shape);
    const memory = place(elementCount(shape) * elementBytes(type));
    return new OrtTensor(type, shape, memory, 0, true);
  }

  /** Whether the tensor may still be used: a view goes with its owner's memory. */
  get disposed(): boolean {
    return this.#disposed || this.memory.disposed;
  }

  get host(): HostArrayOf[E] | null {
    this.assertAlive();
    const { host } = this.memory;
    if (host === null) return null;
    this.#host ??= hostArray(
      this.type,
      host.buffer,
      host.byteOffset + this.#byteOffset,
      this.byteLength / elementBytes(this.type),
    );
    return this.#host;
  }

  view(shape: readonly number[], elementOffset = 0): OrtTensor<E> {
    this.assertAlive();
    checkShape(shape);
    const from = elementOffset * elementBytes(this.type);
    const bytes = elementCount(shape) * elementBytes(this.type);
    if (!Number.isSafeInteger(elementOffset) || elementOffset < 0 || from + bytes > this.byteLength) {
      throw new AppError(
        'runtime_failed',
        `A view ${describe(this.type, shape)} from element ${elementOffset} on does not lie in ${this}.`,
      );
    }
    return new OrtTensor(this.type, shape, this.memory, this.#byteOffset + from, false);
  }

  write(data: HostArrayOf[E]): void {
    this.memory.write(this.#byteOffset, this.#hostBytes(data));
  }

  read(into: HostArrayOf[E]): void {
    this.memory.read(this.#byteOffset, this.#hostBytes(into));
  }

  copyFrom(source: DeviceTensor<E>, runs?: CopyRuns): void {
    if (!(source instanceof OrtTensor)) throw notOurs();
    this.assertAlive();
    source.assertAlive();
    const { count, length, from, to } = runs ?? this.#whole(source);
    if (source.type !== this.type || !source.#holds(count, length, from) || !this.#holds(count, length, to)) {
      throw new AppError(
        'runtime_failed',
        `${count} runs of ${length} elements from ${source} do not lie in both tensors, or the types differ: the target is ${this}.`,
      );
    }
    if (count === 0 || length === 0) return;
    this.memory.copyFrom(source.memory, {
      count,
      length: length * elementBytes(this.type),
      from: source.#bytePlaces(from),
      to: this.#bytePlaces(to),
    });
  }

  fillZero(): void {
    this.assertAlive();
    if (this.byteLength > 0) this.memory.zero(this.#byteOffset, this.byteLength);
  }

  /** An OrtValue over this memory, which it does not own. The caller releases it. */
  createValue(api: OrtApi): Pointer<'OrtValue'> {
    this.assertAlive();
    const sizes = BigInt64Array.from(this.shape, BigInt);
    const address = this.memory.address + BigInt(this.#byteOffset);
    return created((out) =>
      api.CreateTensorWithDataAsOrtValue(
        this.memory.info,
        address,
        this.byteLength,
        sizes,
        sizes.length,
        onnxCode(this.type),
        out,
      ),
    );
  }

  /** @throws AppError `runtime_failed` after disposal of the tensor or, for a view, of its owner. */
  assertAlive(): void {
    if (!this.disposed) return;
    throw new AppError('runtime_failed', `The tensor ${this} was used after it had been disposed of.`);
  }

  toString(): string {
    return describe(this.type, this.shape);
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#host = null;
    if (this.#ownsMemory) this.memory[Symbol.dispose]();
  }

  #whole(source: OrtTensor): CopyRuns {
    const length = this.byteLength / elementBytes(this.type);
    if (source.byteLength === this.byteLength) {
      const places = { offset: 0, stride: length };
      return { count: 1, length, from: places, to: places };
    }
    throw new AppError('runtime_failed', `${source} does not fit ${this}: their byte lengths differ.`);
  }

  #holds(count: number, length: number, { offset, stride }: RunPlaces): boolean {
    const end = offset + Math.max(count - 1, 0) * stride + length;
    const isWhole = [count, length, offset, stride].every((n) => Number.isSafeInteger(n) && n >= 0);
    return isWhole && (count <= 1 || stride >= length) && end * elementBytes(this.type) <= this.byteLength;
  }

  #bytePlaces({ offset, stride }: RunPlaces): ByteRunPlaces {
    const bytes = elementBytes(this.type);
    return { offset: this.#byteOffset + offset * bytes, stride: stride * bytes };
  }

  #hostBytes(data: HostArrayOf[E]): Uint8Array {
    this.assertAlive();
    if (data.byteLength !== this.byteLength) {
      throw new AppError(
        'runtime_failed',
        `${data.byteLength} bytes of host data do not fit ${this}, which has ${this.byteLength}.`,
      );
    }
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
}

const notOurs = (): AppError =>
  new AppError('runtime_failed', 'The tensor to copy from was not allocated by a Runtime.');
