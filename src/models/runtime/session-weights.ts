import koffi from 'koffi';
import { AppError } from '../../core/errors.js';
import { checkShape, describe, elementBytes, elementCount, onnxCode } from './element-type.js';
import { created, type OrtApi, type Pointer } from './ort-api.js';
import type { ExternalInitializer, Provider } from './session.js';

/**
 * A session's initializers out of arrays, which must live until the session is released: the OrtValues, and the references that keep the
 * arrays from the garbage collector.
 *
 * On the CPU they are added by AddInitializer, which takes the memory as it is (AddExternalInitializers copies it); what ONNX Runtime
 * packs for its kernels, the weights of MatMul and MatMulNBits, it copies all the same. On CUDA the memory is read once, onto the device.
 */
export class SessionWeights implements Disposable {
  readonly #api: OrtApi;
  readonly #initializers: readonly ExternalInitializer[];
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

  [Symbol.dispose](): void {
    for (const value of this.#values.splice(0)) this.#api.ReleaseValue(value);
  }

  #createValue(
    cpu: Pointer<'OrtMemoryInfo'>,
    { name, type, shape, data }: ExternalInitializer,
  ): Pointer<'OrtValue'> {
    checkShape(shape);
    const bytes = elementCount(shape) * elementBytes(type);
    if (data.byteLength !== bytes) {
      throw new AppError(
        'runtime_failed',
        `Initializer "${name}" is ${describe(type, shape)}, ${bytes} bytes, but its data has ${data.byteLength}.`,
        { param: name },
      );
    }
    // Through `buffer`, since a small array moves about in V8's heap until its buffer is asked for.
    const address = koffi.address(data.buffer) + BigInt(data.byteOffset);
    const sizes = BigInt64Array.from(shape, BigInt);
    return created((out) =>
      this.#api.CreateTensorWithDataAsOrtValue(cpu, address, bytes, sizes, sizes.length, onnxCode(type), out),
    );
  }
}
