import { availableParallelism } from 'node:os';
import { AppError } from '../../core/errors.js';
import { CudaMemory, type CudaPlace, loadCudaDriver } from './cuda-driver.js';
import { appendCuda, cudaProviderOptions, findCuda } from './cuda-provider.js';
import { OrtTensor } from './device-tensor.js';
import { HostMemory, Lifetime, type Memory } from './memory.js';
import { OrtSession, readSignature, type Signature } from './onnx-session.js';
import { created, type OrtApi, type Pointer } from './ort-api.js';
import { loadOrtLibrary, type OrtLibrary } from './ort-library.js';
import { chooseProvider, type ProviderChoice } from './provider-choice.js';
import type {
  DeviceTensor,
  ElementType,
  LogSeverity,
  Provider,
  Runtime,
  RuntimeOptions,
  Session,
  SessionOptions,
} from './session.js';
import { createSessionOptions } from './session-options.js';
import { SessionWeights } from './session-weights.js';

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
  readonly #sessions = new Set<Session>();
  readonly #memories = new Set<Memory>();
  /** Held by each session, which needs the environment, and by each tensor, which needs its memory's description. */
  readonly #lifetime: Lifetime;

  constructor({ api, version }: OrtLibrary, choice: ProviderChoice, options: RuntimeOptions) {
    this.provider = choice.provider;
    this.choice = choice.reason;
    this.version = version;
    this.#api = api;
    this.#options = options;
    // First, since it is what can fail: a device without memory for one more context.
    this.#cuda = choice.provider === 'cuda' ? openCuda(api, options.cuda?.deviceId ?? 0) : null;
    // ONNX Runtime has one environment a process and counts its owners; the first owner's severity holds for what has no session.
    this.#env = created((out) => api.CreateEnv(this.#severity, 'instructd', out));
    this.#hostInfo = created((out) => api.CreateCpuMemoryInfo(DEVICE_ALLOCATOR, DEFAULT_MEMORY, out));
    this.#lifetime = new Lifetime(() => this.#release());
  }

  openSession(model: Uint8Array, options: SessionOptions = {}): Session {
    this.#assertAlive();
    const weights = new SessionWeights(this.#api, this.#hostInfo, options.initializers ?? []);
    try {
      return this.#track(this.#createSession(model, options, weights), weights);
    } catch (thrown) {
      weights[Symbol.dispose]();
      throw thrown;
    }
  }

  #createSession(model: Uint8Array, options: SessionOptions, weights: SessionWeights): Pointer<'OrtSession'> {
    using native = createSessionOptions(this.#api, options, this.#options.threads ?? availableParallelism());
    this.#api.SetSessionLogSeverityLevel(native.pointer, this.#severity);
    if (this.provider === 'cuda') {
      appendCuda(this.#api, native.pointer, cudaProviderOptions(this.#options.cuda ?? {}, options));
    }
    weights.addTo(native.pointer, this.provider);
    return created((out) =>
      this.#api.CreateSessionFromArray(this.#env, model, model.byteLength, native.pointer, out),
    );
  }

  #track(pointer: Pointer<'OrtSession'>, weights: SessionWeights): Session {
    const signature = this.#readSignature(pointer);
    const session: Session = new OrtSession(this.#api, pointer, signature, this.#cuda?.device ?? null, () => {
      weights[Symbol.dispose]();
      this.#sessions.delete(session);
      this.#lifetime.unhold();
    });
    this.#sessions.add(session);
    this.#lifetime.hold();
    return session;
  }

  #readSignature(pointer: Pointer<'OrtSession'>): Signature {
    try {
      return readSignature(this.#api, pointer);
    } catch (thrown) {
      this.#api.ReleaseSession(pointer);
      throw thrown;
    }
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
    for (const session of this.#sessions) session[Symbol.dispose]();
    // What a caller lost on its way out of an error would otherwise stay on the device for the life of the process.
    for (const memory of this.#memories) memory[Symbol.dispose]();
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
    return OrtTensor.allocate(type, shape, (bytes) => {
      const memory = place(bytes, () => {
        this.#memories.delete(memory);
        this.#lifetime.unhold();
      });
      this.#memories.add(memory);
      this.#lifetime.hold();
      return memory;
    });
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
