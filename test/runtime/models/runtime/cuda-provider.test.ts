import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { AppError } from '../../../../src/core/errors.js';
import type { CudaDriver } from '../../../../src/models/runtime/cuda-driver.js';
import { cudaProviderOptions, findDevice } from '../../../../src/models/runtime/cuda-provider.js';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import { loadOrtLibrary, serves } from '../../../../src/models/runtime/ort-library.js';

const withDevices = (count: () => number): CudaDriver => ({
  countDevices: count,
  deviceName: (deviceId) => `GPU ${deviceId}`,
  open: () => assert.fail('opened'),
});

test('CUDA options are the strings of OrtCUDAProviderOptionsV2', () => {
  assert.deepEqual(
    [
      ...cudaProviderOptions(
        { deviceId: 1, memoryLimitBytes: 2 ** 33, arenaExtend: 'next_power_of_two' },
        { cudaGraphs: true },
      ),
    ],
    [
      ['device_id', '1'],
      ['arena_extend_strategy', 'kNextPowerOfTwo'],
      ['gpu_mem_limit', '8589934592'],
      ['enable_cuda_graph', '1'],
    ],
  );
  assert.equal(cudaProviderOptions({}, {}).has('gpu_mem_limit'), false);
});

test('a device is there by number, or the finding says how many there are', () => {
  const driver = withDevices(() => 2);
  assert.deepEqual(findDevice(driver, 1), { kind: 'ready', deviceId: 1, name: 'GPU 1' });
  assert.deepEqual(findDevice(driver, 2), {
    kind: 'device_missing',
    deviceId: 2,
    devices: 2,
    reason: 'the driver counts 0',
  });
});

test("a driver that cannot start is a missing device with the driver's reason", () => {
  const driver = withDevices(() => {
    throw new AppError('runtime_failed', 'CUDA driver error 100: no CUDA-capable device is detected.');
  });
  assert.deepEqual(findDevice(driver, 0), {
    kind: 'device_missing',
    deviceId: 0,
    devices: 0,
    reason: 'CUDA driver error 100: no CUDA-capable device is detected',
  });
});

const providerLibrary = join(loadOrtLibrary().folder, 'libonnxruntime_providers_cuda.so');

test('PROVIDER=cuda without the provider library fails with its path', {
  skip: existsSync(providerLibrary) && 'the CUDA provider is installed here',
}, () => {
  assert.throws(
    () => openRuntime({ provider: 'cuda' }),
    (thrown: AppError) =>
      thrown.code === 'provider_unavailable' && thrown.message.includes('libonnxruntime_providers_cuda'),
  );
  using runtime = openRuntime({ provider: 'auto' });
  assert.equal(runtime.provider, 'cpu');
  assert.match(runtime.choice, /provider library is missing/);
});

test('a library serves the API versions up to its own minor version', () => {
  assert.equal(serves('1.30.0', 22), true);
  assert.equal(serves('1.22.1', 22), true);
  assert.equal(serves('1.21.9', 22), false);
  assert.equal(serves('2.0.0', 22), true);
});
