import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '../../../../src/core/errors.js';
import type { OrtTensor } from '../../../../src/models/runtime/device-tensor.js';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import type { Binding, DeviceTensor, Session } from '../../../../src/models/runtime/session.js';
import { addInput, addWeight, multiply, otherTypes } from './graphs.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });

const failure = (pattern: RegExp) => (thrown: unknown) =>
  thrown instanceof AppError && thrown.code === 'runtime_failed' && pattern.test(thrown.message);

const float32 = (values: readonly number[], shape: readonly number[] = [values.length]) => {
  const tensor = runtime.allocate('float32', shape);
  tensor.write(Float32Array.from(values));
  return tensor;
};

const bind = (
  session: Session,
  inputs: Readonly<Record<string, DeviceTensor>>,
  outputs: Readonly<Record<string, DeviceTensor>>,
): Binding => {
  const binding = session.createBinding();
  for (const [name, tensor] of Object.entries(inputs)) binding.bindInput(name, tensor);
  for (const [name, tensor] of Object.entries(outputs)) binding.bindOutput(name, tensor);
  return binding;
};

test('the library is the one that onnxruntime-node installed', () => {
  assert.match(runtime.version, /^1\.\d+\.\d+$/);
});

test('a session tells names, types and shapes of its inputs and outputs', () => {
  using session = runtime.openSession(addInput());
  assert.deepEqual(session.inputs, [
    { name: 'x', type: 'float32', shape: [null] },
    { name: 'step', type: 'float32', shape: [] },
  ]);
  assert.deepEqual(session.outputs, [{ name: 'y', type: 'float32', shape: [null] }]);
});

test('an output bound to the memory of an input is updated in place, run after run', () => {
  using session = runtime.openSession(addInput());
  using x = float32([1, 2, 3]);
  using step = float32([10], []);
  using binding = bind(session, { x, step }, { y: x });
  binding.run();
  binding.run();
  assert.deepEqual(x.host, Float32Array.of(21, 22, 23));
});

test('a host write to a bound tensor is what the next run reads, without binding again', () => {
  using session = runtime.openSession(addInput());
  using x = float32([1]);
  using step = float32([1], []);
  using y = runtime.allocate('float32', [1]);
  using binding = bind(session, { x, step }, { y });
  binding.run();
  (step.host as Float32Array)[0] = 5;
  binding.run();
  assert.deepEqual(y.host, Float32Array.of(6));
});

test('a view at an offset is written where it lies, and nothing around it', () => {
  using session = runtime.openSession(addInput());
  using slots = float32([0, 1, 2, 3, 4, 5], [3, 2]);
  using step = float32([100], []);
  const slot = slots.view([2], 2);
  using binding = bind(session, { x: slot, step }, { y: slot });
  binding.run();
  assert.deepEqual(slots.host, Float32Array.of(0, 1, 102, 103, 4, 5));
  assert.deepEqual(slot.view([1], 1).host, Float32Array.of(103));
  assert.throws(() => slots.view([3], 4), failure(/float32\[3\] from element 4.*float32\[3, 2\]/));
  assert.throws(() => slot.view([3]), failure(/does not lie in float32\[2\]/));
});

test('one session runs any extent of a dynamic axis', () => {
  using session = runtime.openSession(addInput());
  using step = float32([1], []);
  for (const rows of [1, 7, 1000, 0]) {
    using x = runtime.allocate('float32', [rows]);
    using y = runtime.allocate('float32', [rows]);
    using binding = bind(session, { x, step }, { y });
    binding.run();
    assert.deepEqual(y.host, new Float32Array(rows).fill(1));
  }
});

test('float16, int64, bool and uint8 tensors go in and out by their bits', () => {
  using session = runtime.openSession(otherTypes());
  using x = float32([0.25, 4]);
  using a = runtime.allocate('int64', [2]);
  using b = runtime.allocate('int64', [2]);
  a.write(BigInt64Array.of(-(2n ** 60n), 7n));
  b.write(BigInt64Array.of(-(2n ** 60n) + 1n, 7n));
  using half = runtime.allocate('float16', [2]);
  using below = runtime.allocate('bool', [2]);
  using flags = runtime.allocate('uint8', [2]);
  using binding = bind(session, { x, a, b }, { half, below, flags });
  binding.run();
  // 0.5 and 2 as IEEE binary16.
  assert.deepEqual(half.host, Uint16Array.of(0x3800, 0x4000));
  assert.deepEqual(below.host, Uint8Array.of(1, 0));
  assert.deepEqual(flags.host, Uint8Array.of(1, 0));
});

test('memory is zero at first and starts on a 64-byte line', () => {
  using tensor = runtime.allocate('int32', [1000]);
  assert.deepEqual(tensor.host, new Int32Array(1000));
  for (const elements of [1, 3, 1000]) {
    using other = runtime.allocate('int8', [elements]);
    assert.equal((other as OrtTensor).memory.address % 64n, 0n);
  }
  assert.equal(tensor.byteLength, 4000);
});

test('runAsync gives the result of run and lets timers fire meanwhile', async () => {
  using session = runtime.openSession(multiply(2048, 2048), { intraOpThreads: 1 });
  using x = runtime.allocate('float32', [1024, 2048]);
  using a = runtime.allocate('float32', [2048, 2048]);
  (x.host as Float32Array).fill(1);
  (a.host as Float32Array).fill(2);
  using y = runtime.allocate('float32', [1024, 2048]);
  using binding = bind(session, { x, a }, { y });

  let ticks = 0;
  const timer = setInterval(() => ticks++, 2);
  const started = performance.now();
  await binding.runAsync();
  const elapsed = performance.now() - started;
  clearInterval(timer);

  assert.equal((y.host as Float32Array)[12345], 4096);
  // A blocked loop fires none. Half of what an idle machine would fire leaves room for a busy one.
  assert.ok(ticks >= Math.min(5, elapsed / 20), `${ticks} ticks in ${elapsed.toFixed(0)} ms`);
});

test('two bindings of one session run at once without touching each other', async () => {
  using session = runtime.openSession(multiply(256, 256));
  using a = runtime.allocate('float32', [256, 256]);
  (a.host as Float32Array).fill(1);
  const lanes = [1, 2].map((value) => {
    const x = runtime.allocate('float32', [64, 256]);
    (x.host as Float32Array).fill(value);
    const y = runtime.allocate('float32', [64, 256]);
    return { value, y, binding: bind(session, { x, a }, { y }) };
  });
  for (let round = 0; round < 20; round++) {
    await Promise.all(lanes.map(({ binding }) => binding.runAsync()));
    for (const { value, y } of lanes)
      assert.ok((y.host as Float32Array).every((element) => element === 256 * value));
  }
});

test('a binding that runs refuses a second run and new tensors until it has ended', async () => {
  using session = runtime.openSession(multiply(512, 512));
  using x = runtime.allocate('float32', [256, 512]);
  using a = runtime.allocate('float32', [512, 512]);
  using y = runtime.allocate('float32', [256, 512]);
  using binding = bind(session, { x, a }, { y });
  const running = binding.runAsync();
  assert.throws(() => binding.run(), failure(/while a run of it was going on/));
  assert.throws(() => binding.bindInput('x', x), failure(/while a run of it was going on/));
  await assert.rejects(binding.runAsync(), failure(/while a run of it was going on/));
  await running;
  binding.run();
});

test('disposal during a run waits for its end', async () => {
  const session = runtime.openSession(multiply(512, 512));
  const x = runtime.allocate('float32', [256, 512]);
  const a = runtime.allocate('float32', [512, 512]);
  const y = runtime.allocate('float32', [256, 512]);
  const binding = bind(session, { x, a }, { y });
  const running = binding.runAsync();
  for (const each of [x, a, y, binding, session]) each[Symbol.dispose]();
  await running;
  assert.throws(() => y.host, failure(/after it had been disposed of/));
});

test('what is bound wrongly is refused by name, with both types and shapes', () => {
  using session = runtime.openSession(addWeight(4), {
    initializers: [{ name: 'w', type: 'float32', shape: [4], data: new Uint8Array(16) }],
  });
  using binding = session.createBinding();
  using right = runtime.allocate('float32', [2, 4]);
  using wide = runtime.allocate('float32', [2, 5]);
  using flat = runtime.allocate('float32', [8]);
  using integers = runtime.allocate('int32', [2, 4]);
  assert.throws(() => binding.bindInput('z', right), failure(/no input "z"; it has x/));
  assert.throws(() => binding.bindOutput('x', right), failure(/no output "x"; it has y/));
  assert.throws(() => binding.bindInput('x', wide), failure(/"x" is float32\[\?, 4\].* float32\[2, 5\]/));
  assert.throws(() => binding.bindInput('x', flat), failure(/"x" is float32\[\?, 4\].* float32\[8\]/));
  assert.throws(() => binding.bindInput('x', integers), failure(/"x" is float32\[\?, 4\].* int32\[2, 4\]/));
  assert.throws(() => binding.run(), failure(/No tensor is bound to input x/));
});

test("a failing run throws ONNX Runtime's own message, sync and async, and the binding runs again", async () => {
  using session = runtime.openSession(addInput());
  using x = float32([1, 2, 3]);
  using step = float32([1], []);
  using tooShort = runtime.allocate('float32', [2]);
  using y = runtime.allocate('float32', [3]);
  using binding = bind(session, { x, step }, { y: tooShort });
  assert.throws(() => binding.run(), failure(/ONNX Runtime: .*shape \{2\}.*\{3\}/s));
  await assert.rejects(binding.runAsync(), failure(/ONNX Runtime: .*shape \{2\}.*\{3\}/s));
  binding.bindOutput('y', y);
  binding.run();
  assert.deepEqual(y.host, Float32Array.of(2, 3, 4));
});

test('bytes that are no model are refused with the reason', () => {
  assert.throws(() => runtime.openSession(new Uint8Array(100).fill(7)), failure(/ONNX Runtime: .*protobuf/));
});

test('host data of another size than the tensor is refused', () => {
  using tensor = runtime.allocate('float32', [4]);
  assert.throws(() => tensor.write(new Float32Array(3)), failure(/12 bytes.*float32\[4\], which has 16/));
  assert.throws(() => tensor.read(new Float32Array(5)), failure(/20 bytes.*float32\[4\], which has 16/));
  assert.throws(() => runtime.allocate('float32', [2, -1]), failure(/\[2, -1\]/));
});

test('use after disposal is an error, and disposing twice is nothing', () => {
  const own = openRuntime({ provider: 'cpu' });
  const session = own.openSession(addInput());
  const x = own.allocate('float32', [1]);
  const step = own.allocate('float32', []);
  const kept = x.host as Float32Array;
  const view = x.view([1]);
  const binding = bind(session, { x, step }, { y: x });

  x[Symbol.dispose]();
  x[Symbol.dispose]();
  assert.equal(kept.length, 0);
  const used = failure(/float32\[1\] was used after it had been disposed of/);
  assert.throws(() => x.host, used);
  assert.throws(() => view.host, used);
  assert.throws(() => x.write(new Float32Array(1)), used);
  assert.throws(() => binding.run(), used);
  assert.throws(() => binding.bindInput('x', view), used);

  session[Symbol.dispose]();
  session[Symbol.dispose]();
  binding[Symbol.dispose]();
  assert.throws(() => binding.run(), failure(/binding was used after it or its session/));
  assert.throws(() => session.createBinding(), failure(/session was used after/));

  own[Symbol.dispose]();
  own[Symbol.dispose]();
  assert.throws(() => own.allocate('float32', [1]), failure(/runtime was used after/));
  assert.throws(() => own.openSession(addInput()), failure(/runtime was used after/));
});

test('a session that was profiled returns the path of the profile', async (t) => {
  const { mkdtempSync, readFileSync, rmSync } = await import('node:fs');
  const { tmpdir } = await import('node:os');
  const { join } = await import('node:path');
  const folder = mkdtempSync(join(tmpdir(), 'instructd-'));
  t.after(() => rmSync(folder, { recursive: true }));
  using session = runtime.openSession(addInput(), { profilePrefix: join(folder, 'profile') });
  using x = float32([1]);
  using step = float32([1], []);
  using binding = bind(session, { x, step }, { y: x });
  binding.run();
  const path = session.endProfiling();
  assert.ok(path.startsWith(folder));
  assert.match(readFileSync(path, 'utf8'), /"op_name" ?: ?"Add"/);
});
