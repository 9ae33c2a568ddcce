import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AppError } from '../../../../src/core/errors.js';
import { type CudaFinding, chooseProvider } from '../../../../src/models/runtime/provider-choice.js';

const ready: CudaFinding = { kind: 'ready', deviceId: 1, name: 'Some GPU' };

/** Each way in which CUDA can be absent, and what its sentence has to name. */
const absences: readonly (readonly [CudaFinding, RegExp])[] = [
  [
    { kind: 'library_missing', path: '/lib/libprovider.so' },
    /provider library is missing.*\/lib\/libprovider\.so/,
  ],
  [{ kind: 'driver_missing', file: 'libcuda.so.1' }, /driver is missing.*libcuda\.so\.1/],
  [
    { kind: 'device_missing', deviceId: 0, devices: 0, reason: 'no CUDA-capable device is detected' },
    /no CUDA device: no CUDA-capable device/,
  ],
  [{ kind: 'device_missing', deviceId: 3, devices: 2, reason: '' }, /no CUDA device 3: the driver counts 2/],
  [{ kind: 'provider_failed', reason: 'libcudnn.so.9: cannot open' }, /could not load.*libcudnn\.so\.9/],
];

test('cuda is taken where it is ready, by auto and by name, and the reason names the device', () => {
  for (const requested of ['auto', 'cuda'] as const) {
    const { provider, reason } = chooseProvider(requested, () => ready);
    assert.equal(provider, 'cuda');
    assert.match(reason, /device 1 \(Some GPU\)/);
  }
});

test('a cpu that was asked for is taken without a look at the machine', () => {
  const { provider } = chooseProvider('cpu', () => assert.fail('looked'));
  assert.equal(provider, 'cpu');
});

test('auto takes the cpu where cuda is absent and says in one sentence what is missing', () => {
  for (const [finding, names] of absences) {
    const { provider, reason } = chooseProvider('auto', () => finding);
    assert.equal(provider, 'cpu');
    assert.match(reason, names);
    assert.match(reason, /^Running on the CPU: [^\n]*\.$/);
  }
});

test('cuda that was asked for and is absent is one sentence under provider_unavailable', () => {
  for (const [finding, names] of absences) {
    assert.throws(
      () => chooseProvider('cuda', () => finding),
      (thrown: AppError) =>
        thrown.code === 'provider_unavailable' &&
        names.test(thrown.message) &&
        !thrown.message.includes('\n'),
    );
  }
});
