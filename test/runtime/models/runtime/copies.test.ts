import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { AppError } from '../../../../src/core/errors.js';
import {
  CudaDevice,
  type CudaFunctions,
  CudaMemory,
  openDriver,
} from '../../../../src/models/runtime/cuda-driver.js';
import { OrtTensor } from '../../../../src/models/runtime/device-tensor.js';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import type { Pointer } from '../../../../src/models/runtime/ort-api.js';
import type { DeviceTensor } from '../../../../src/models/runtime/session.js';

/**
 * The driver's side of cuda.h over an array: it checks what the real one would refuse (no current context, addresses outside a block, a
 * pitch below the width, memory that is no device's) and counts waits.
 */
class ArrayDriver {
  readonly memory = new Uint8Array(1 << 16);
  readonly blocks = new Map<bigint, number>();
  waits = 0;
  #current = false;
  #next = 0x1000n;

  readonly functions: CudaFunctions = {
    cuInit: () => 0,
    cuGetErrorString: (_error, text) => this.#put(text, 'invalid argument'),
    cuDeviceGetCount: (count) => this.#put(count, 1),
    cuDeviceGet: (device, ordinal) => this.#put(device, ordinal),
    cuDeviceGetName: () => 0,
    cuDevicePrimaryCtxRetain: (context) => this.#put(context, 0xc0n),
    cuDevicePrimaryCtxRelease: () => 0,
    cuCtxSetCurrent: (context) => {
      this.#current = context === 0xc0n;
      return 0;
    },
    cuStreamSynchronize: (stream) => {
      this.waits++;
      return this.#current && stream === null ? 0 : 1;
    },
    cuMemGetInfo: (free, total) => this.#put(free, 7) || this.#put(total, 9),
    cuMemAlloc: (address, bytes) => {
      if (!this.#current) return 201;
      if (Number(this.#next) + Number(bytes) > this.memory.length) return 2;
      this.blocks.set(this.#next, Number(bytes));
      this.#put(address, this.#next);
      this.memory.fill(0xff, Number(this.#next), Number(this.#next) + Number(bytes));
      this.#next += BigInt(bytes as number) + 64n;
      return 0;
    },
    cuMemFree: (address) => (this.blocks.delete(address as bigint) ? 0 : 1),
    cuMemsetD8: (address, value, bytes) =>
      this.#within(address as bigint, bytes as number, (at) =>
        this.memory.fill(value as number, at, at + Number(bytes)),
      ),
    cuMemcpyHtoD: (to, from, bytes) =>
      this.#within(to as bigint, bytes as number, (at) => this.memory.set(from as Uint8Array, at)),
    cuMemcpyDtoH: (to, from, bytes) =>
      this.#within(from as bigint, bytes as number, (at) =>
        (to as Uint8Array).set(this.memory.subarray(at, at + Number(bytes))),
      ),
    cuMemcpy2D: (copy) => this.#copy2D(copy as BigUint64Array),
  };

  /** The fields of CUDA_MEMCPY2D in their order. */
  #copy2D(copy: BigUint64Array): number {
    const [srcX, srcY, srcType, srcHost, src, srcArray, srcPitch] = [...copy.subarray(0, 7)] as bigint[];
    const [dstX, dstY, dstType, dstHost, dst, dstArray, dstPitch] = [...copy.subarray(7, 14)] as bigint[];
    const [width, height] = [Number(copy[14]), Number(copy[15])];
    const unused = [srcX, srcY, srcHost, srcArray, dstX, dstY, dstHost, dstArray];
    if (copy.length !== 16 || unused.some((word) => word !== 0n) || srcType !== 2n || dstType !== 2n)
      return 1;
    if (Number(srcPitch) < width || Number(dstPitch) < width) return 1;
    for (let row = 0; row < height; row++) {
      const from = src! + BigInt(row) * srcPitch!;
      const to = dst! + BigInt(row) * dstPitch!;
      const error =
        this.#within(from, width, () => {}) ||
        this.#within(to, width, (at) => this.memory.copyWithin(at, Number(from), Number(from) + width));
      if (error !== 0) return error;
    }
    return 0;
  }

  #within(address: bigint, bytes: number, act: (at: number) => void): number {
    if (!this.#current) return 201;
    for (const [start, length] of this.blocks) {
      if (address < start || address + BigInt(bytes) > start + BigInt(length)) continue;
      act(Number(address));
      return 0;
    }
    return 1;
  }

  #put(out: unknown, value: unknown): 0 {
    (out as unknown[])[0] = value;
    return 0;
  }
}

const info = 0n as Pointer<'OrtMemoryInfo'>;

function cudaTensors() {
  const driver = new ArrayDriver();
  const device = openDriver(driver.functions).open(0);
  const allocate = (shape: readonly number[]): DeviceTensor<'float32'> =>
    OrtTensor.allocate('float32', shape, (bytes) => new CudaMemory({ device, info }, bytes, () => {}));
  return { driver, device, allocate };
}
const runtime = openRuntime({ provider: 'cpu' });
after(() => runtime[Symbol.dispose]());
const places = {
  'the CPU': (shape: readonly number[]) => runtime.allocate('float32', shape),
  CUDA: cudaTensors().allocate,
} satisfies Record<string, (shape: readonly number[]) => DeviceTensor<'float32'>>;

const numbers = (count: number) => Float32Array.from({ length: count }, (_, at) => at + 1);
function contents(tensor: DeviceTensor<'float32'>): number[] {
  const values = new Float32Array(tensor.byteLength / 4);
  tensor.read(values);
  return [...values];
}

for (const [place, allocate] of Object.entries(places)) {
  test(`on ${place} runs of elements are copied from one place of a tensor to another, and nothing else changes`, () => {
    // Two slots of two heads of four positions of three.
    using cache = allocate([2, 2, 4, 3]);
    cache.write(numbers(48));
    cache.copyFrom(cache, {
      count: 2,
      length: 6,
      from: { offset: 0, stride: 12 },
      to: { offset: 24, stride: 12 },
    });
    const expected = [...numbers(48)];
    expected.splice(24, 6, 1, 2, 3, 4, 5, 6);
    expected.splice(36, 6, 13, 14, 15, 16, 17, 18);
    assert.deepEqual(contents(cache), expected);
  });

  test(`on ${place} a view is copied whole into another, from its own offset`, () => {
    using from = allocate([6]);
    using to = allocate([5]);
    from.write(numbers(6));
    to.view([2], 3).copyFrom(from.view([2, 1], 4) as DeviceTensor<'float32'>);
    assert.deepEqual(contents(to), [0, 0, 0, 5, 6]);
    to.view([2], 2).fillZero();
    assert.deepEqual(contents(to), [0, 0, 0, 0, 6]);
  });

  test(`on ${place} runs that leave either tensor are refused`, () => {
    using small = allocate([4]);
    using large = allocate([8]);
    const refused = (error: AppError) => error.code === 'runtime_failed';
    assert.throws(() => small.copyFrom(large), refused);
    const at = (offset: number, stride: number) => ({ offset, stride });
    for (const runs of [
      { count: 2, length: 2, from: at(0, 6), to: at(1, 2) },
      { count: 2, length: 2, from: at(5, 2), to: at(0, 2) },
      { count: 2, length: 3, from: at(0, 3), to: at(0, 1) },
      { count: 1, length: 1, from: at(-1, 1), to: at(0, 1) },
    ])
      assert.throws(() => small.copyFrom(large, runs), refused);
    small.copyFrom(large, { count: 2, length: 2, from: at(0, 6), to: at(0, 2) });
  });
}

test('memory of the host and of a CUDA device are not copied into each other', () => {
  using here = runtime.allocate('float32', [2]);
  using there = cudaTensors().allocate([2]);
  using onAnother = cudaTensors().allocate([2]);
  const refused = /same device only/;
  assert.throws(() => here.copyFrom(there), refused);
  assert.throws(() => there.copyFrom(here), refused);
  assert.throws(() => there.copyFrom(onAnother), refused);
});

test('writes and copies on CUDA are waited for once, when a run needs them', () => {
  const { driver, device, allocate } = cudaTensors();
  using a = allocate([4]);
  using b = allocate([4]);
  a.write(numbers(4));
  b.copyFrom(a);
  assert.equal(driver.waits, 0);
  device.settle();
  device.settle();
  assert.equal(driver.waits, 1);
  assert.deepEqual(contents(b), [1, 2, 3, 4]);
});

test('a CUDA device that is full says what was asked for and what is free, and freed memory is gone', () => {
  const { driver, allocate } = cudaTensors();
  const tensor = allocate([4]);
  assert.throws(
    () => allocate([1 << 20]),
    (error: AppError) => error.code === 'out_of_memory' && /4194304 bytes .* 7 of 9/.test(error.message),
  );
  tensor[Symbol.dispose]();
  tensor[Symbol.dispose]();
  assert.equal(driver.blocks.size, 0);
});

test('what a disposed runtime had allocated is refused', () => {
  const own = openRuntime({ provider: 'cpu' });
  const lost = own.allocate('float32', [4]);
  own[Symbol.dispose]();
  assert.throws(() => lost.host, /was used after it had been disposed of/);
});

test('a device works with the context that it retained', () => {
  const { functions } = new ArrayDriver();
  let released = 0;
  const device = new CudaDevice({ ...functions, cuDevicePrimaryCtxRelease: () => released++ }, 0);
  device[Symbol.dispose]();
  device[Symbol.dispose]();
  assert.equal(released, 1);
});
