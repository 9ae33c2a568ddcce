import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { AppError } from '../../../../src/core/errors.js';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import type { Session } from '../../../../src/models/runtime/session.js';
import { addInput, addWeight, embed } from './graphs.js';

const MIB = 2 ** 20;
const runtime = openRuntime({ provider: 'cpu', threads: 2 });

const folder = mkdtempSync(join(tmpdir(), 'instructd-'));
after(() => rmSync(folder, { recursive: true }));

/** Memory of this process that no file backs, and all of it. Linux only. */
const resident = () => {
  const status = readFileSync('/proc/self/status', 'utf8');
  const of = (key: string) => Number(new RegExp(`${key}:\\s+(\\d+)`).exec(status)?.[1]) / 1024;
  return { anonymous: of('RssAnon'), all: of('VmRSS') };
};
const linuxOnly = process.platform !== 'linux' && 'reads /proc';

const runAdd = (session: Session): Float32Array => {
  using x = runtime.allocate('float32', [1, 64]);
  using y = runtime.allocate('float32', [1, 64]);
  using binding = session.createBinding();
  binding.bindInput('x', x);
  binding.bindOutput('y', y);
  binding.run();
  return Float32Array.from(y.host as Float32Array);
};

test('disposing of a tensor gives its pages back at once', { skip: linuxOnly }, () => {
  const tensor = runtime.allocate('uint8', [256 * MIB]);
  const untouched = resident().all;
  (tensor.host as Uint8Array).fill(1);
  const full = resident().all;
  tensor[Symbol.dispose]();
  const disposed = resident().all;
  const sizes = [untouched, full, disposed].map((size) => size.toFixed(0)).join(', ');
  assert.ok(full - untouched > 240 && full - disposed > 240, `${sizes} MiB untouched, filled, disposed`);
});

test('a weight in an array is used where it is: a later change of the array reaches the next run', () => {
  const weight = Float32Array.from({ length: 64 }, (_, at) => at);
  using session = runtime.openSession(addWeight(64), {
    initializers: [{ name: 'w', type: 'float32', shape: [64], data: new Uint8Array(weight.buffer) }],
  });
  assert.deepEqual(runAdd(session), weight);
  weight[3] = 1000;
  assert.deepEqual(runAdd(session), weight);
});

test('a weight in a file is read from its offset', () => {
  const table = Float32Array.from({ length: 64 }, (_, at) => at / 2);
  // 12: no alignment but the element's.
  writeFileSync(
    join(folder, 'offset.bin'),
    Buffer.concat([Buffer.alloc(12, 0xff), new Uint8Array(table.buffer)]),
  );
  const model = embed(8, 8, { kind: 'external', file: 'offset.bin', offset: 12, length: 256 });
  using session = runtime.openSession(model, { externalDirectory: folder });
  using ids = runtime.allocate('int64', [2]);
  ids.write(BigInt64Array.of(7n, 1n));
  using y = runtime.allocate('float32', [2, 8]);
  using binding = session.createBinding();
  binding.bindInput('ids', ids);
  binding.bindOutput('y', y);
  binding.run();
  assert.deepEqual([...(y.host as Float32Array)], [...table.subarray(56, 64), ...table.subarray(8, 16)]);
});

test('a weight of the wrong size is refused by name', () => {
  assert.throws(
    () =>
      runtime.openSession(addWeight(64), {
        initializers: [{ name: 'w', type: 'float32', shape: [64], data: new Uint8Array(255) }],
      }),
    (thrown: AppError) =>
      thrown.code === 'runtime_failed' && /"w" is float32\[64\], 256 bytes.* has 255/.test(thrown.message),
  );
});

test('256 MiB of weights in an array cost no second copy', { skip: linuxOnly }, () => {
  const [rows, width] = [32_768, 2048];
  const table = new Float32Array(rows * width).fill(1);
  const before = resident().anonymous;
  using session = runtime.openSession(embed(rows, width, { kind: 'external' }), {
    initializers: [
      { name: 'table', type: 'float32', shape: [rows, width], data: new Uint8Array(table.buffer) },
    ],
  });
  assert.equal(session.inputs.length, 1);
  const growth = resident().anonymous - before;
  assert.ok(growth < 32, `${growth.toFixed(0)} MiB for opening the session`);
});

test('256 MiB of weights in a file cost no memory until they are read', { skip: linuxOnly }, () => {
  const [rows, width] = [32_768, 2048];
  writeFileSync(join(folder, 'table.bin'), Buffer.alloc(256 * MIB));
  const before = resident().all;
  const model = embed(rows, width, { kind: 'external', file: 'table.bin', offset: 0, length: 256 * MIB });
  using session = runtime.openSession(model, { externalDirectory: folder });
  assert.equal(session.inputs.length, 1);
  const growth = resident().all - before;
  assert.ok(growth < 32, `${growth.toFixed(0)} MiB for opening the session`);
});

test('1,000 rounds of open, bind, run, dispose keep memory flat', { skip: linuxOnly }, async () => {
  const model = addInput();
  const round = async (at: number): Promise<void> => {
    using session = runtime.openSession(model, { intraOpThreads: 1 });
    // 256 KiB a tensor: 1,000 leaked rounds would be 500 MiB of tensors alone.
    using x = runtime.allocate('float32', [65_536]);
    using y = runtime.allocate('float32', [65_536]);
    using step = runtime.allocate('float32', []);
    (x.host as Float32Array).fill(at);
    (step.host as Float32Array)[0] = 1;
    using binding = session.createBinding();
    binding.bindInput('x', x.view([65_536]));
    binding.bindInput('step', step);
    binding.bindOutput('y', y);
    if (at % 2 === 0) binding.run();
    else await binding.runAsync();
    assert.equal((y.host as Float32Array)[65_535], at + 1);
  };
  for (let at = 0; at < 200; at++) await round(at);
  const before = resident().all;
  for (let at = 0; at < 1000; at++) await round(at);
  const growth = resident().all - before;
  // A leaked session is 64 KiB a round; 16 MiB leave room for V8's heap and malloc's.
  assert.ok(growth < 16, `${growth.toFixed(1)} MiB in 1,000 rounds`);
});

test('20,000 bindings leave nothing behind', { skip: linuxOnly }, () => {
  using session = runtime.openSession(addInput());
  using x = runtime.allocate('float32', [16]);
  using step = runtime.allocate('float32', []);
  const bindAll = (times: number): void => {
    for (let at = 0; at < times; at++) {
      using binding = session.createBinding();
      binding.bindInput('x', x.view([8], at % 8));
      binding.bindInput('step', step);
      binding.bindOutput('y', x);
    }
  };
  bindAll(10_000);
  const before = resident().anonymous;
  bindAll(20_000);
  const growth = resident().anonymous - before;
  // Leaked OrtValues or bindings are over 10 MiB.
  assert.ok(growth < 4, `${growth.toFixed(1)} MiB for 20,000 bindings`);
});
