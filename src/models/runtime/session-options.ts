import { AppError } from '../../core/errors.js';
import { checkShape, describe, elementBytes, elementCount, onnxCode } from './element-type.js';
import { created, type OrtApi, type Pointer } from './ort-api.js';
import type { ExternalInitializer, SessionOptions } from './session.js';

/** A native object that goes at the end of the block that holds it. */
export interface Owned<T extends string> extends Disposable {
  readonly pointer: Pointer<T>;
}

export const owned = <T extends string>(
  pointer: Pointer<T>,
  release: (pointer: Pointer<T>) => void,
): Owned<T> => ({ pointer, [Symbol.dispose]: () => release(pointer) });

/** GraphOptimizationLevel. */
const optimizationLevels = { none: 0, basic: 1, extended: 2, all: 99 } as const;

/** @param threads Of the runtime, where the session does not say. */
export function createSessionOptions(
  api: OrtApi,
  options: SessionOptions,
  threads: number,
): Owned<'OrtSessionOptions'> {
  const native = created<Pointer<'OrtSessionOptions'>>((out) => api.CreateSessionOptions(out));
  api.SetIntraOpNumThreads(native, options.intraOpThreads ?? threads);
  api.SetSessionGraphOptimizationLevel(native, optimizationLevels[options.optimization ?? 'all']);
  if (options.profilePrefix !== undefined) api.EnableProfiling(native, options.profilePrefix);
  for (const [key, value] of configEntries(options)) api.AddSessionConfigEntry(native, key, value);
  return owned(native, api.ReleaseSessionOptions);
}

/** Keys of onnxruntime_session_options_config_keys.h. */
export const configEntries = (
  options: SessionOptions,
): readonly (readonly [key: string, value: string])[] => [
  ['session.intra_op.allow_spinning', options.spin === true ? '1' : '0'],
  // Denormals are a hundred times slower than other numbers on some CPUs and carry nothing here.
  ['session.set_denormal_as_zero', '1'],
];

/**
 * Gives the session its weights out of memory that the caller keeps. The OrtValues that wrap that memory go with the returned object,
 * after the session has been created.
 */
export function addInitializers(
  api: OrtApi,
  options: Pointer<'OrtSessionOptions'>,
  cpu: Pointer<'OrtMemoryInfo'>,
  initializers: readonly ExternalInitializer[],
  addressOf: (data: Uint8Array) => bigint,
): Disposable {
  const values: Pointer<'OrtValue'>[] = [];
  const release = { [Symbol.dispose]: () => values.forEach(api.ReleaseValue) };
  try {
    for (const { name, type, shape, data } of initializers) {
      checkInitializer(name, type, shape, data);
      const sizes = BigInt64Array.from(shape, BigInt);
      const address = addressOf(data);
      values.push(
        created((out) =>
          api.CreateTensorWithDataAsOrtValue(
            cpu,
            address,
            data.byteLength,
            sizes,
            sizes.length,
            onnxCode(type),
            out,
          ),
        ),
      );
    }
    if (values.length > 0) {
      const names = initializers.map(({ name }) => name);
      api.AddExternalInitializers(options, names, values, values.length);
    }
    return release;
  } catch (thrown) {
    release[Symbol.dispose]();
    throw thrown;
  }
}

function checkInitializer(
  name: string,
  type: ExternalInitializer['type'],
  shape: readonly number[],
  data: Uint8Array,
): void {
  checkShape(shape);
  const bytes = elementCount(shape) * elementBytes(type);
  if (data.byteLength === bytes) return;
  throw new AppError(
    'runtime_failed',
    `Initializer "${name}" is ${describe(type, shape)}, ${bytes} bytes, but its data has ${data.byteLength}.`,
    { param: name },
  );
}
