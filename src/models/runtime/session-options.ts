import { created, type OrtApi, type Pointer } from './ort-api.js';
import type { SessionOptions } from './session.js';

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
  ...(options.externalDirectory === undefined
    ? []
    : [['session.model_external_initializers_file_folder_path', options.externalDirectory] as const]),
];
