import { availableParallelism } from 'node:os';
import koffi from 'koffi';
import { AppError } from '../../core/errors.js';
import { CudaMemory, type CudaPlace, loadCudaDriver } from './cuda-driver.js';
import { appendCuda, cudaProviderOptions, findCuda } from './cuda-provider.js';
import { OrtTensor } from './device-tensor.js';
import { HostMemory, Lifetime, type Memory } from './memory.js';
import { OrtSession } from './onnx-session.js';
import { created, type OrtApi, type Pointer } from './ort-api.js';
import { loadOrtLibrary, type OrtLibrary } from './ort-library.js';
import { chooseProvider, type ProviderChoice } from './provider-choice.js';
import type {
  DeviceTensor,
  ElementType,
  ExternalInitializer,
  LogSeverity,
  Provider,
  Runtime,
  RuntimeOptions,
  Session,
  SessionOptions,
} from './session.js';
import { addInitializers, createSessionOptions } from './session-options.js';

/**
 * Loads ONNX Runtime, once a process, and chooses the provider.
 * @throws AppError `provider_unavailable` where CUDA was asked for and cannot be used, `runtime_failed` where the library cannot
 */
export function openRuntime(options: RuntimeOptions): Runtime {
  const library = loadOrtLibrary();
  const choice = chooseProvider(options.provider, () => findCuda(library, options.cuda ?? {}));
  return new OrtRuntime(library, choice, options);
}

/** OrtLoggingLevel. */
const severities: Readonly<Record<LogSeverity, number>> = {
  verbose: 0,
  info: 1,
  warning: 2,
  error: 3,
  fatal: 4,
};

/** OrtAllocatorType and OrtMemType: memory of a device, without an arena of its own. */
const DEVICE_ALLOCATOR = 0;
const DEFAULT_MEMORY = 0;

class OrtRuntime implements Runtime {
  readonly provider: Provider;
  readonly choice: string;
  readonly version: string;
  readonly #api: OrtApi;
  readonly #options: RuntimeOptions;
  readonly #env: Pointer<'OrtEnv'>;
  readonly #hostInfo: Pointer<'OrtMemoryInfo'>;
  readonly #cuda: CudaPlace | null;
  /** Weights are read by every run of their session: this keeps the garbage collector from them. */
  readonly #sessions = new Map<Session, readonly ExternalInitializer[]>();
  /** Held by each session, which needs the environment, and by each tensor, which needs its memory's description. */
  readonly #lifetime: Lifetime;

  constructor({ api, version }: OrtLibrary, choice: ProviderChoice, options: RuntimeOptions) {
    this.provider = choice.provider;
    this.choice = choice.reason;
    this.version = version;
    this.#api = api;
    this.#options = options;
    // ONNX Runtime has one environment a process and counts its owners; the first owner's severity holds for what has no session.
    this.#env = created((out) => api.CreateEnv(this.#severity, 'instructd', out));
    this.#hostInfo = created((out) => api.CreateCpuMemoryInfo(DEVICE_ALLOCATOR, DEFAULT_MEMORY, out));
    this.#cuda = choice.provider === 'cuda' ? openCuda(api, options.cuda?.deviceId ?? 0) : null;
    this.#lifetime = new Lifetime(() => this.#release());
  }

  openSession(model: Uint8Array, options: SessionOptions = {}): Session {
    this.#assertAlive();
    const { initializers = [] } = options;
    using native = createSessionOptions(this.#api, options, this.#options.threads ?? availableParallelism());
    this.#api.SetSessionLogSeverityLevel(native.pointer, this.#severity);
    if (this.provider === 'cuda') {
      appendCuda(this.#api, native.pointer, cudaProviderOptions(this.#options.cuda ?? {}, options));
    }
    using _values = addInitializers(this.#api, native.pointer, this.#hostInfo, initializers, koffi.address);
    const pointer = created<Pointer<'OrtSession'>>((out) =>
      this.#api.CreateSessionFromArray(this.#env, model, model.byteLength, native.pointer, out),
    );
    this.#lifetime.hold();
    const session: Session = new OrtSession(this.#api, pointer, this.provider, () => {
      this.#sessions.delete(session);
      this.#lifetime.unhold();
    });
    this.#sessions.set(session, initializers);
    return session;
  }

  allocate<E extends ElementType>(type: E, shape: readonly number[]): DeviceTensor<E> {
    const cuda = this.#cuda;
    if (cuda === null) return this.allocateHost(type, shape);
    return this.#allocate(type, shape, (bytes, onFree) => new CudaMemory(cuda, bytes, onFree));
  }

  allocateHost<E extends ElementType>(type: E, shape: readonly number[]): DeviceTensor<E> {
    return this.#allocate(type, shape, (bytes, onFree) => new HostMemory(this.#hostInfo, bytes, onFree));
  }

  [Symbol.dispose](): void {
    for (const session of this.#sessions.keys()) session[Symbol.dispose]();
    this.#lifetime.dispose();
  }

  #release(): void {
    this.#api.ReleaseMemoryInfo(this.#hostInfo);
    if (this.#cuda !== null) {
      this.#api.ReleaseMemoryInfo(this.#cuda.info);
      this.#cuda.device[Symbol.dispose]();
    }
    this.#api.ReleaseEnv(this.#env);
  }

  get #severity(): number {
    return severities[this.#options.logSeverity ?? 'fatal'];
  }

  #allocate<E extends ElementType>(
    type: E,
    shape: readonly number[],
    place: (byteLength: number, onFree: () => void) => Memory,
  ): DeviceTensor<E> {
    this.#assertAlive();
    const tensor = OrtTensor.allocate(type, shape, (bytes) => place(bytes, () => this.#lifetime.unhold()));
    this.#lifetime.hold();
    return tensor;
  }

  #assertAlive(): void {
    if (!this.#lifetime.disposed) return;
    throw new AppError('runtime_failed', 'A runtime was used after it had been disposed of.');
  }
}

function openCuda(api: OrtApi, deviceId: number): CudaPlace {
  const device = loadCudaDriver()?.open(deviceId);
  if (device === undefined) throw new AppError('runtime_failed', 'The NVIDIA driver went away.');
  const info = created<Pointer<'OrtMemoryInfo'>>((out) =>
    api.CreateMemoryInfo('Cuda', DEVICE_ALLOCATOR, deviceId, DEFAULT_MEMORY, out),
  );
  return { device, info };
}
