import koffi from 'koffi';
import { AppError } from '../../core/errors.js';
import { checkShape, describe, elementBytes, elementCount, onnxCode } from './element-type.js';
import { MappedFile } from './mapped-file.js';
import { created, type OrtApi, type Pointer } from './ort-api.js';
import type { ExternalInitializer, Provider } from './session.js';

/**
 * A session's external initializers, which must live until the session is released: the OrtValues, the files that are mapped, and the
 * references that keep arrays from the garbage collector.
 *
 * On the CPU they are added by AddInitializer, which takes the memory as it is (AddExternalInitializers copies it). What ONNX Runtime
 * packs for its kernels (the weights of MatMul and MatMulNBits) it copies all the same; of a mapped file those pages are then dropped.
 * On CUDA the memory is read once, onto the device, when the session opens.
 */
export class SessionWeights implements Disposable {
  readonly #api: OrtApi;
  readonly #initializers: readonly ExternalInitializer[];
  readonly #files = new Map<string, MappedFile>();
  readonly #values: Pointer<'OrtValue'>[] = [];

  constructor(api: OrtApi, cpu: Pointer<'OrtMemoryInfo'>, initializers: readonly ExternalInitializer[]) {
    this.#api = api;
    this.#initializers = initializers;
    try {
      for (const initializer of initializers) this.#values.push(this.#createValue(cpu, initializer));
    } catch (thrown) {
      this[Symbol.dispose]();
      throw thrown;
    }
  }

  addTo(options: Pointer<'OrtSessionOptions'>, provider: Provider): void {
    const names = this.#initializers.map(({ name }) => name);
    if (provider === 'cuda') {
      if (names.length > 0) this.#api.AddExternalInitializers(options, names, this.#values, names.length);
      return;
    }
    for (const [at, value] of this.#values.entries()) {
      this.#api.AddInitializer(options, names[at] as string, value);
    }
  }

  /** Drops the pages of mapped files that opening the session read. */
  releasePages(): void {
    for (const file of this.#files.values()) file.releasePages();
  }

  [Symbol.dispose](): void {
    for (const value of this.#values.splice(0)) this.#api.ReleaseValue(value);
    for (const file of this.#files.values()) file[Symbol.dispose]();
    this.#files.clear();
  }

  #createValue(cpu: Pointer<'OrtMemoryInfo'>, initializer: ExternalInitializer): Pointer<'OrtValue'> {
    const { type, shape } = initializer;
    const bytes = checkedBytes(initializer);
    const address = this.#addressOf(initializer, bytes);
    const sizes = BigInt64Array.from(shape, BigInt);
    return created((out) =>
      this.#api.CreateTensorWithDataAsOrtValue(cpu, address, bytes, sizes, sizes.length, onnxCode(type), out),
    );
  }

  #addressOf({ name, data }: ExternalInitializer, bytes: number): bigint {
    if (data instanceof Uint8Array) return koffi.address(data.buffer) + BigInt(data.byteOffset);
    let file = this.#files.get(data.file);
    if (file === undefined) {
      file = new MappedFile(data.file);
      this.#files.set(data.file, file);
    }
    if (data.offset + bytes <= file.byteLength) return file.address + BigInt(data.offset);
    throw new AppError(
      'runtime_failed',
      `Initializer "${name}" is ${bytes} bytes from byte ${data.offset} on, but ${data.file} has ${file.byteLength}.`,
      { param: name },
    );
  }
}

function checkedBytes({ name, type, shape, data }: ExternalInitializer): number {
  checkShape(shape);
  const bytes = elementCount(shape) * elementBytes(type);
  if (!(data instanceof Uint8Array) || data.byteLength === bytes) return bytes;
  throw new AppError(
    'runtime_failed',
    `Initializer "${name}" is ${describe(type, shape)}, ${bytes} bytes, but its data has ${data.byteLength}.`,
    { param: name },
  );
}
