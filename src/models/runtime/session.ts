/**
 * What the rest of the code knows of ONNX Runtime: a Runtime opens Sessions and allocates DeviceTensors; a Binding ties tensors to a
 * session's inputs and outputs once and runs it many times. Native memory has one visible owner: whoever made it disposes of it
 * (`using`). Only this folder touches ONNX Runtime and FFI.
 */

export type Provider = 'cpu' | 'cuda';

/** ONNX element types that our graphs use. */
export type ElementType = 'float32' | 'float16' | 'bfloat16' | 'int64' | 'int32' | 'int8' | 'uint8' | 'bool';

/** Host storage of an element type; float16 and bfloat16 are their bits, int64 is BigInt64Array. */
export interface HostArrayOf {
  readonly float32: Float32Array;
  readonly float16: Uint16Array;
  readonly bfloat16: Uint16Array;
  readonly int64: BigInt64Array;
  readonly int32: Int32Array;
  readonly int8: Int8Array;
  readonly uint8: Uint8Array;
  readonly bool: Uint8Array;
}

/** A tensor in the memory of the provider's device. */
export interface DeviceTensor<E extends ElementType = ElementType> extends Disposable {
  readonly type: E;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** The tensor's own memory as a typed array where the device is the CPU, null elsewhere. Valid until disposed. */
  readonly host: HostArrayOf[E] | null;
  /** The same memory seen with another shape from an element offset on: for slots of a KV buffer. The view does not own the memory. */
  view(shape: readonly number[], elementOffset?: number): DeviceTensor<E>;
  /** Copies host data in; the lengths must be equal. */
  write(data: HostArrayOf[E]): void;
  /** Copies out into host memory. */
  read(into: HostArrayOf[E]): void;
  /**
   * Copies from a tensor of the same type on the same device, without the host between them: all of it, byte lengths being equal, or runs
   * of elements. The two ranges must not overlap.
   */
  copyFrom(source: DeviceTensor<E>, runs?: CopyRuns): void;
  fillZero(): void;
}

/** Equally long runs of elements at equal distances, such as the beginning of each head of a KV cache. */
export interface CopyRuns {
  readonly count: number;
  /** Elements of a run. */
  readonly length: number;
  readonly from: RunPlaces;
  readonly to: RunPlaces;
}

export interface RunPlaces {
  /** Element at which the first run starts. */
  readonly offset: number;
  /** Elements from one run's start to the next one's. */
  readonly stride: number;
}

/**
 * A weight that the graph leaves out. In the model it is a tensor with external data at location `.`: ONNX Runtime wants a path that
 * exists, and does not open it for what is supplied by name.
 */
export interface ExternalInitializer {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly number[];
  /** Bytes in the element type's layout: used where they are, not copied, and referenced until the session is released. */
  readonly data: Uint8Array;
}

export interface SessionOptions {
  readonly initializers?: readonly ExternalInitializer[];
  /** Where the files lie that the model's external weights name: ONNX Runtime maps them, and shares their pages between processes. */
  readonly externalDirectory?: string;
  /** Device tensors as initializers (shared between sessions, or trained in place) are bound as inputs instead. */
  readonly intraOpThreads?: number;
  /** Spin while idle between nodes and runs: faster decode, a busy core. */
  readonly spin?: boolean;
  /** Writes ONNX Runtime's profile with this prefix; the path comes back from `endProfiling`. */
  readonly profilePrefix?: string;
  /** CUDA only: capture fixed-shape runs as CUDA graphs, keyed by the binding's `graphId`. */
  readonly cudaGraphs?: boolean;
  readonly optimization?: 'none' | 'basic' | 'extended' | 'all';
}

export interface ValueInfo {
  readonly name: string;
  readonly type: ElementType;
  /** null = dynamic. */
  readonly shape: readonly (number | null)[];
}

export interface Session extends Disposable {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  createBinding(options?: BindingOptions): Binding;
  /** Ends the profile that `profilePrefix` began and returns its path. */
  endProfiling(): string;
}

export interface BindingOptions {
  /**
   * CUDA with `cudaGraphs` only: the first run under this number is captured, later ones are replayed. One number for one set of shapes
   * and memory. What lies in host tensors is frozen at the capture, and a replay writes no host tensor: bind device tensors. The first
   * run computes up to three times (ONNX Runtime warms its arena up before it captures), so it must give the same when repeated. At
   * least 0; without it the runs of the binding are not captured.
   */
  readonly graphId?: number;
}

export interface Binding extends Disposable {
  bindInput(name: string, tensor: DeviceTensor): void;
  /** The run writes into this tensor; it may be the very memory of an input (KV cache, weights trained in place). */
  bindOutput(name: string, tensor: DeviceTensor): void;
  /** Blocks the calling thread. Throws AppError `runtime_failed` with ONNX Runtime's message. */
  run(): void;
  /**
   * The same on a thread of the FFI, so that the caller's event loop goes on. Nothing bound may be written meanwhile; what is disposed
   * of meanwhile goes when the run ends. Not for bindings with a `graphId`: ONNX Runtime keeps captured graphs by thread.
   */
  runAsync(): Promise<void>;
}

export interface CudaOptions {
  readonly deviceId?: number;
  readonly memoryLimitBytes?: number;
  readonly arenaExtend?: 'next_power_of_two' | 'same_as_requested';
  /** An engine captures its decode steps as CUDA graphs. */
  readonly graphs?: boolean;
}

export interface RuntimeOptions {
  /** `auto` takes CUDA where a device, its driver and the provider library are there. */
  readonly provider: Provider | 'auto';
  readonly threads?: number;
  readonly cuda?: CudaOptions;
  /** ONNX Runtime's own messages from this severity on go to standard error. Default `fatal`: an error is thrown with its message anyway. */
  readonly logSeverity?: LogSeverity;
}

export type LogSeverity = 'verbose' | 'info' | 'warning' | 'error' | 'fatal';

/** Its disposal disposes of its sessions and tensors, so that an error half-way leaves nothing on the device. */
export interface Runtime extends Disposable {
  readonly provider: Provider;
  /** Why `auto` took this provider, one sentence for the log. */
  readonly choice: string;
  /** ONNX Runtime's own version string. */
  readonly version: string;
  /** @param model ModelProto bytes (src/models/graph/onnx.ts). */
  openSession(model: Uint8Array, options?: SessionOptions): Session;
  /** Zero-filled memory on the device. */
  allocate<E extends ElementType>(type: E, shape: readonly number[]): DeviceTensor<E>;
  /** Host-side tensor (CPU memory), also where the provider is CUDA: for token ids, positions, sampled logits. */
  allocateHost<E extends ElementType>(type: E, shape: readonly number[]): DeviceTensor<E>;
}
