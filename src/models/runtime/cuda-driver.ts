import koffi, { type LibraryHandle } from 'koffi';
import { AppError } from '../../core/errors.js';
import { Lifetime, type Memory } from './memory.js';
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
  cuCtxSynchronize: 'int cuCtxSynchronize()',
  cuMemGetInfo: 'int cuMemGetInfo_v2(_Out_ size_t* free, _Out_ size_t* total)',
  cuMemAlloc: 'int cuMemAlloc_v2(_Out_ uint64_t* address, size_t bytes)',
  cuMemFree: 'int cuMemFree_v2(uint64_t address)',
  cuMemsetD8: 'int cuMemsetD8_v2(uint64_t address, uint8_t value, size_t bytes)',
  cuMemcpyHtoD: 'int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes)',
  cuMemcpyDtoH: 'int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes)',
} as const;

type CudaFunctions = { readonly [Name in keyof typeof prototypes]: (...args: readonly unknown[]) => number };

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

function openDriver(cuda: CudaFunctions): CudaDriver {
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

/** One device, by its primary context. Contexts are current to a thread, so each call makes it current first. */
export class CudaDevice implements Disposable {
  readonly #cuda: CudaFunctions;
  readonly #device: number;
  readonly #context: bigint;
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
    const at = BigInt(address[0] as bigint);
    this.#check(this.#cuda.cuMemsetD8(at, 0, byteLength));
    this.#check(this.#cuda.cuCtxSynchronize());
    return at;
  }

  free(address: bigint): void {
    this.#enter();
    this.#check(this.#cuda.cuMemFree(address));
  }

  /** Returns when the data is on the device: the driver may return from a small copy out of pageable memory before it is. */
  copyIn(to: bigint, from: Uint8Array): void {
    this.#enter();
    this.#check(this.#cuda.cuMemcpyHtoD(to, from, from.byteLength));
    this.#check(this.#cuda.cuCtxSynchronize());
  }

  copyOut(into: Uint8Array, from: bigint): void {
    this.#enter();
    this.#check(this.#cuda.cuMemcpyDtoH(into, from, into.byteLength));
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

  [Symbol.dispose](): void {
    this.#lifetime.dispose();
  }
}
