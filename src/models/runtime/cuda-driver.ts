import koffi, { type LibraryHandle } from 'koffi';
import { AppError } from '../../core/errors.js';
import { type ByteRuns, elsewhere, Lifetime, type Memory } from './memory.js';
import type { Pointer } from './ort-api.js';

/**
 * The little of NVIDIA's driver API (cuda.h) that device memory needs. It is the one CUDA library whose name and ABI do not change with
 * the toolkit's version, and its primary context is the one that ONNX Runtime's CUDA provider works in.
 */
export interface CudaDriver {
  /** @throws AppError `runtime_failed` with the driver's reason where it cannot start, as on a machine without a device */
  countDevices(): number;
  deviceName(deviceId: number): string;
  open(deviceId: number): CudaDevice;
}

export const driverFile = process.platform === 'win32' ? 'nvcuda.dll' : 'libcuda.so.1';

const prototypes = {
  cuInit: 'int cuInit(unsigned int flags)',
  cuGetErrorString: 'int cuGetErrorString(int error, _Out_ const char** text)',
  cuDeviceGetCount: 'int cuDeviceGetCount(_Out_ int* count)',
  cuDeviceGet: 'int cuDeviceGet(_Out_ int* device, int ordinal)',
  cuDeviceGetName: 'int cuDeviceGetName(uint8_t* name, int length, int device)',
  cuDevicePrimaryCtxRetain: 'int cuDevicePrimaryCtxRetain(_Out_ void** context, int device)',
  cuDevicePrimaryCtxRelease: 'int cuDevicePrimaryCtxRelease_v2(int device)',
  cuCtxSetCurrent: 'int cuCtxSetCurrent(void* context)',
  cuStreamSynchronize: 'int cuStreamSynchronize(void* stream)',
  cuMemGetInfo: 'int cuMemGetInfo_v2(_Out_ size_t* free, _Out_ size_t* total)',
  cuMemAlloc: 'int cuMemAlloc_v2(_Out_ uint64_t* address, size_t bytes)',
  cuMemFree: 'int cuMemFree_v2(uint64_t address)',
  cuMemsetD8: 'int cuMemsetD8_v2(uint64_t address, uint8_t value, size_t bytes)',
  cuMemcpyHtoD: 'int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes)',
  cuMemcpyDtoH: 'int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes)',
  // Takes any pitch; cuMemcpy2D may refuse one that cuMemAllocPitch did not give.
  cuMemcpy2D: 'int cuMemcpy2DUnaligned_v2(const uint64_t* copy)',
} as const;

export type CudaFunctions = {
  readonly [Name in keyof typeof prototypes]: (...args: readonly unknown[]) => number;
};

const CUDA_ERROR_OUT_OF_MEMORY = 2;

/** null where no driver is installed. */
export function loadCudaDriver(): CudaDriver | null {
  let library: LibraryHandle;
  try {
    library = koffi.load(driverFile);
  } catch {
    return null;
  }
  const cuda = Object.fromEntries(
    Object.entries(prototypes).map(([name, prototype]) => [name, library.func(prototype)]),
  ) as unknown as CudaFunctions;
  return openDriver(cuda);
}

/** The driver behind its functions, however they are reached. */
export function openDriver(cuda: CudaFunctions): CudaDriver {
  const check = (error: number): void => {
    if (error !== 0) throw cudaError(cuda, error);
  };
  const handleOf = (deviceId: number): number => {
    const device = [0];
    check(cuda.cuDeviceGet(device, deviceId));
    return device[0] as number;
  };
  return {
    // No device also shows as an error of cuInit (100), whose text says so.
    countDevices: () => {
      const count = [0];
      check(cuda.cuInit(0));
      check(cuda.cuDeviceGetCount(count));
      return count[0] as number;
    },
    deviceName: (deviceId) => {
      const name = new Uint8Array(256);
      check(cuda.cuDeviceGetName(name, name.length, handleOf(deviceId)));
      return Buffer.from(name.subarray(0, name.indexOf(0))).toString('utf8');
    },
    open: (deviceId) => new CudaDevice(cuda, handleOf(deviceId)),
  };
}

function cudaError(cuda: CudaFunctions, error: number): AppError {
  const text: [string | null] = [null];
  cuda.cuGetErrorString(error, text);
  return new AppError('runtime_failed', `CUDA driver error ${error}: ${text[0] ?? 'unknown error'}.`);
}

/** CU_MEMORYTYPE_DEVICE */
const DEVICE_MEMORY = 2n;
const NULL_STREAM = null;

/**
 * One device, by its primary context. Contexts are current to a thread, so each call makes it current first.
 *
 * All copies go through the null stream, in order. ONNX Runtime's streams do not wait for it (they are made non-blocking), so what was
 * written or copied is sure to be there for a run only after `settle`, which waits for the null stream alone: other models' runs go on.
 * The other way round there is nothing to wait for, since a run returns when its stream is done.
 */
export class CudaDevice implements Disposable {
  readonly #cuda: CudaFunctions;
  readonly #device: number;
  readonly #context: bigint;
  #unsettled = false;
  #disposed = false;

  constructor(cuda: CudaFunctions, device: number) {
    const context: [bigint | null] = [null];
    this.#cuda = cuda;
    this.#device = device;
    this.#check(cuda.cuDevicePrimaryCtxRetain(context, device));
    this.#context = context[0] as bigint;
  }

  /** Zero-filled. @throws AppError `out_of_memory` with what was asked for and what is free */
  allocate(byteLength: number): bigint {
    this.#enter();
    const address = [0n];
    const error = this.#cuda.cuMemAlloc(address, byteLength);
    if (error === CUDA_ERROR_OUT_OF_MEMORY) throw this.#outOfMemory(byteLength);
    this.#check(error);
    // koffi gives a number where it is exact.
    const at = BigInt(address[0] as bigint | number);
    try {
      this.zero(at, byteLength);
    } catch (thrown) {
      this.#cuda.cuMemFree(at);
      throw thrown;
    }
    return at;
  }

  free(address: bigint): void {
    this.settle();
    this.#enter();
    this.#check(this.#cuda.cuMemFree(address));
  }

  zero(address: bigint, byteLength: number): void {
    this.#enter();
    this.#unsettled = true;
    this.#check(this.#cuda.cuMemsetD8(address, 0, byteLength));
  }

  /** `from` may be reused at once; the driver may still be on its way from its own copy of it to the device. */
  copyIn(to: bigint, from: Uint8Array): void {
    if (from.byteLength === 0) return;
    this.#enter();
    this.#unsettled = true;
    this.#check(this.#cuda.cuMemcpyHtoD(to, from, from.byteLength));
  }

  /** Returns when the data is there, after all copies before it. */
  copyOut(into: Uint8Array, from: bigint): void {
    if (into.byteLength === 0) return;
    this.#enter();
    this.#check(this.#cuda.cuMemcpyDtoH(into, from, into.byteLength));
  }

  /** Runs of bytes from one address to another as one copy. */
  copyRuns(to: bigint, from: bigint, runs: ByteRuns): void {
    this.#enter();
    this.#unsettled = true;
    this.#check(this.#cuda.cuMemcpy2D(copy2D(to, from, runs)));
  }

  /** Waits for what was written, copied and zeroed. */
  settle(): void {
    if (!this.#unsettled) return;
    this.#enter();
    this.#check(this.#cuda.cuStreamSynchronize(NULL_STREAM));
    this.#unsettled = false;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#check(this.#cuda.cuDevicePrimaryCtxRelease(this.#device));
  }

  #enter(): void {
    this.#check(this.#cuda.cuCtxSetCurrent(this.#context));
  }

  #check(error: number): void {
    if (error !== 0) throw cudaError(this.#cuda, error);
  }

  #outOfMemory(byteLength: number): AppError {
    const free = [0];
    const total = [0];
    this.#check(this.#cuda.cuMemGetInfo(free, total));
    return new AppError(
      'out_of_memory',
      `Allocating ${byteLength} bytes on the CUDA device failed: ${free[0]} of ${total[0]} are free.`,
    );
  }
}

/** CUDA_MEMCPY2D of cuda.h: sixteen words of 8 bytes, the memory types being ints with 4 bytes of padding behind them. */
function copy2D(to: bigint, from: bigint, runs: ByteRuns): BigUint64Array {
  const pitch = (stride: number) => BigInt(Math.max(stride, runs.length));
  const side = (address: bigint, { offset, stride }: ByteRuns['from']) => [
    0n, // x
    0n, // y
    DEVICE_MEMORY,
    0n, // host address
    address + BigInt(offset),
    0n, // array
    pitch(stride),
  ];
  return BigUint64Array.from([
    ...side(from, runs.from),
    ...side(to, runs.to),
    BigInt(runs.length),
    BigInt(runs.count),
  ]);
}

/** Where device tensors go: the device, and ONNX Runtime's name of its memory. */
export interface CudaPlace {
  readonly device: CudaDevice;
  readonly info: Pointer<'OrtMemoryInfo'>;
}

export class CudaMemory implements Memory {
  readonly byteLength: number;
  readonly info: Pointer<'OrtMemoryInfo'>;
  readonly address: bigint;
  readonly host = null;
  readonly #device: CudaDevice;
  readonly #lifetime: Lifetime;

  constructor({ device, info }: CudaPlace, byteLength: number, onFree: () => void) {
    // An empty tensor still needs an address of its own.
    const address = device.allocate(Math.max(byteLength, 1));
    this.byteLength = byteLength;
    this.info = info;
    this.address = address;
    this.#device = device;
    this.#lifetime = new Lifetime(() => {
      device.free(address);
      onFree();
    });
  }

  get disposed(): boolean {
    return this.#lifetime.disposed;
  }

  hold(): void {
    this.#lifetime.hold();
  }

  unhold(): void {
    this.#lifetime.unhold();
  }

  write(byteOffset: number, from: Uint8Array): void {
    this.#device.copyIn(this.address + BigInt(byteOffset), from);
  }

  read(byteOffset: number, into: Uint8Array): void {
    this.#device.copyOut(into, this.address + BigInt(byteOffset));
  }

  copyFrom(source: Memory, runs: ByteRuns): void {
    if (!(source instanceof CudaMemory) || source.#device !== this.#device) throw elsewhere();
    this.#device.copyRuns(this.address, source.address, runs);
  }

  zero(byteOffset: number, byteLength: number): void {
    this.#device.zero(this.address + BigInt(byteOffset), byteLength);
  }

  [Symbol.dispose](): void {
    this.#lifetime.dispose();
  }
}
