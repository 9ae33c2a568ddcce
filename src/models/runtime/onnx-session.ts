import { AppError } from '../../core/errors.js';
import { OrtBinding } from './binding.js';
import type { CudaDevice } from './cuda-driver.js';
import { elementTypeOf } from './element-type.js';
import { Lifetime } from './memory.js';
import { created, type OrtApi, type Out, type Pointer } from './ort-api.js';
import type { Binding, BindingOptions, Session, ValueInfo } from './session.js';
import { owned } from './session-options.js';

export interface Signature {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
}

export class OrtSession implements Session {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly #api: OrtApi;
  readonly #pointer: Pointer<'OrtSession'>;
  readonly #device: CudaDevice | null;
  readonly #lifetime: Lifetime;
  readonly #bindings = new Set<Binding>();

  /**
   * @param pointer   Owned by the session from here on.
   * @param device    null on the CPU.
   * @param onRelease Called when the native session is gone, which is after the runs that were going on at disposal.
   */
  constructor(
    api: OrtApi,
    pointer: Pointer<'OrtSession'>,
    signature: Signature,
    device: CudaDevice | null,
    onRelease: () => void,
  ) {
    this.#api = api;
    this.#device = device;
    this.#pointer = pointer;
    this.#lifetime = new Lifetime(() => {
      api.ReleaseSession(pointer);
      onRelease();
    });
    this.inputs = signature.inputs;
    this.outputs = signature.outputs;
  }

  createBinding(options: BindingOptions = {}): Binding {
    this.#assertAlive();
    const binding: Binding = new OrtBinding(
      {
        api: this.#api,
        pointer: this.#pointer,
        lifetime: this.#lifetime,
        inputs: this.inputs,
        outputs: this.outputs,
        device: this.#device,
      },
      options,
      () => this.#bindings.delete(binding),
    );
    this.#bindings.add(binding);
    return binding;
  }

  endProfiling(): string {
    this.#assertAlive();
    const allocator = defaultAllocator(this.#api);
    const path = created<Pointer<'char'>>((out) =>
      this.#api.SessionEndProfiling(this.#pointer, allocator, out),
    );
    return this.#api.takeString(allocator, path);
  }

  [Symbol.dispose](): void {
    for (const binding of this.#bindings) binding[Symbol.dispose]();
    this.#lifetime.dispose();
  }

  #assertAlive(): void {
    if (!this.#lifetime.disposed) return;
    throw new AppError('runtime_failed', 'A session was used after it had been disposed of.');
  }
}

const defaultAllocator = (api: OrtApi): Pointer<'OrtAllocator'> =>
  created((out) => api.GetAllocatorWithDefaultOptions(out));

/** @throws AppError `runtime_failed` where an input or output is no tensor of a type that we have */
export const readSignature = (api: OrtApi, session: Pointer<'OrtSession'>): Signature => ({
  inputs: readValues(api, session, 'Input'),
  outputs: readValues(api, session, 'Output'),
});

function readValues(api: OrtApi, session: Pointer<'OrtSession'>, role: 'Input' | 'Output'): ValueInfo[] {
  const allocator = defaultAllocator(api);
  const count = created<number>((out) => api[`SessionGet${role}Count`](session, out));
  return Array.from({ length: count }, (_, index) => {
    const text = created<Pointer<'char'>>((out) =>
      api[`SessionGet${role}Name`](session, index, allocator, out),
    );
    return readValue(api, api.takeString(allocator, text), (out) =>
      api[`SessionGet${role}TypeInfo`](session, index, out),
    );
  });
}

function readValue(
  api: OrtApi,
  name: string,
  typeInfo: (out: Out<Pointer<'OrtTypeInfo'>>) => void,
): ValueInfo {
  using info = owned(created(typeInfo), api.ReleaseTypeInfo);
  // Borrowed from `info`.
  const tensor = created<Pointer<'OrtTensorTypeAndShapeInfo'> | null>((out) =>
    api.CastTypeInfoToTensorInfo(info.pointer, out as Out<Pointer<'OrtTensorTypeAndShapeInfo'>>),
  );
  const code = tensor === null ? null : created<number>((out) => api.GetTensorElementType(tensor, out));
  const type = code === null ? null : elementTypeOf(code);
  if (tensor === null || type === null) {
    throw new AppError(
      'runtime_failed',
      `"${name}" is not a tensor of a supported type (ONNX type ${code}).`,
      {
        param: name,
      },
    );
  }
  const rank = created<number>((out) => api.GetDimensionsCount(tensor, out));
  const sizes = new BigInt64Array(rank);
  api.GetDimensions(tensor, sizes, rank);
  return { name, type, shape: Array.from(sizes, (size) => (size < 0n ? null : Number(size))) };
}
