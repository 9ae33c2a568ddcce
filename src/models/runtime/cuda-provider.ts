import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../../core/errors.js';
import { type CudaDriver, driverFile, loadCudaDriver } from './cuda-driver.js';
import { created, type OrtApi, type Pointer } from './ort-api.js';
import type { OrtLibrary } from './ort-library.js';
import type { CudaFinding } from './provider-choice.js';
import type { CudaOptions, SessionOptions } from './session.js';
import { owned } from './session-options.js';

const providerFile =
  process.platform === 'win32' ? 'onnxruntime_providers_cuda.dll' : 'libonnxruntime_providers_cuda.so';

const arenaStrategies = {
  next_power_of_two: 'kNextPowerOfTwo',
  same_as_requested: 'kSameAsRequested',
} as const satisfies Record<NonNullable<CudaOptions['arenaExtend']>, string>;

/**
 * Keys and values of OrtCUDAProviderOptionsV2. The memory limit bounds ONNX Runtime's arena (weights and activations), not the tensors
 * that `Runtime.allocate` makes beside it.
 */
export const cudaProviderOptions = (
  cuda: CudaOptions,
  session: Pick<SessionOptions, 'cudaGraphs'>,
): ReadonlyMap<string, string> =>
  new Map([
    ['device_id', String(cuda.deviceId ?? 0)],
    ['arena_extend_strategy', arenaStrategies[cuda.arenaExtend ?? 'same_as_requested']],
    ...(cuda.memoryLimitBytes === undefined
      ? []
      : ([['gpu_mem_limit', String(cuda.memoryLimitBytes)]] as const)),
    ['enable_cuda_graph', session.cudaGraphs === true ? '1' : '0'],
  ]);

export function appendCuda(
  api: OrtApi,
  options: Pointer<'OrtSessionOptions'>,
  entries: ReadonlyMap<string, string>,
): void {
  using cuda = owned(
    created<Pointer<'OrtCUDAProviderOptionsV2'>>((out) => api.CreateCUDAProviderOptions(out)),
    api.ReleaseCUDAProviderOptions,
  );
  api.UpdateCUDAProviderOptions(cuda.pointer, [...entries.keys()], [...entries.values()], entries.size);
  api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda.pointer);
}

/** OrtLoggingLevel. */
const FATAL = 4;

/** Looks for the provider library, the driver and the device, then has ONNX Runtime load its provider. */
export function findCuda(library: OrtLibrary, cuda: CudaOptions, driver = loadCudaDriver()): CudaFinding {
  const path = join(library.folder, providerFile);
  if (!existsSync(path)) return { kind: 'library_missing', path };
  if (driver === null) return { kind: 'driver_missing', file: driverFile };
  const device = findDevice(driver, cuda.deviceId ?? 0);
  if (device.kind !== 'ready') return device;
  try {
    // Without an environment ONNX Runtime has no logger, and says that in place of what went wrong.
    using _env = owned(
      created<Pointer<'OrtEnv'>>((out) => library.api.CreateEnv(FATAL, 'instructd', out)),
      library.api.ReleaseEnv,
    );
    using options = owned(
      created<Pointer<'OrtSessionOptions'>>((out) => library.api.CreateSessionOptions(out)),
      library.api.ReleaseSessionOptions,
    );
    appendCuda(library.api, options.pointer, cudaProviderOptions(cuda, {}));
    return device;
  } catch (thrown) {
    return { kind: 'provider_failed', reason: reasonOf(thrown) };
  }
}

/** Whether the driver has the device that was asked for. */
export function findDevice(driver: CudaDriver, deviceId: number): CudaFinding {
  try {
    const devices = driver.countDevices();
    if (deviceId < devices) return { kind: 'ready', deviceId, name: driver.deviceName(deviceId) };
    return { kind: 'device_missing', deviceId, devices, reason: 'the driver counts 0' };
  } catch (thrown) {
    return { kind: 'device_missing', deviceId, devices: 0, reason: reasonOf(thrown) };
  }
}

const reasonOf = (thrown: unknown): string =>
  (thrown instanceof AppError ? thrown.message : String(thrown)).replace(/\.$/, '');
