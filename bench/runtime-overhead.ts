/**
 * What a step costs before any arithmetic: a graph of one addition of one number, run sync and async, bound anew, and over more threads.
 *   npm run bench -- runtime-overhead
 */
import { GraphBuilder } from '../src/models/graph/builder.js';
import { encodeModel } from '../src/models/graph/onnx.js';
import { add, matmul, rename } from '../src/models/graph/ops.js';
import { openRuntime } from '../src/models/runtime/open-runtime.js';
import type { Runtime, SessionOptions } from '../src/models/runtime/session.js';

const ROUNDS = 5;

/** Microseconds a call, the median of some rounds. */
async function microseconds(calls: number, body: () => void | Promise<void>): Promise<number> {
  const rounds: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const started = performance.now();
    for (let call = 0; call < calls; call++) {
      const pending = body();
      if (pending !== undefined) await pending;
    }
    rounds.push(((performance.now() - started) * 1000) / calls);
  }
  // The first round warms up.
  return rounds.slice(1).sort((a, b) => a - b)[ROUNDS >> 1] as number;
}

const report = (what: string, value: number): void =>
  console.log(`${value.toFixed(1).padStart(9)} us  ${what}`);

async function bareRun(runtime: Runtime): Promise<void> {
  const g = new GraphBuilder('one', { n: 'dynamic' });
  g.output('y', add(g.input('x', 'float32', ['n']), g.input('step', 'float32', [])));
  using session = runtime.openSession(encodeModel(g.build()), { intraOpThreads: 1 });
  using x = runtime.allocate('float32', [8]);
  using step = runtime.allocate('float32', []);
  using binding = session.createBinding();
  binding.bindInput('x', x.view([1]));
  binding.bindInput('step', step);
  binding.bindOutput('y', x.view([1]));

  report('run, one node', await microseconds(20_000, () => binding.run()));
  report('runAsync, one node', await microseconds(5_000, () => binding.runAsync()));
  const views = [x.view([1]), x.view([1], 1)] as const;
  let at = 0;
  report(
    'bind one input anew',
    await microseconds(20_000, () => binding.bindInput('x', views[++at % 2 === 0 ? 0 : 1])),
  );
  report(
    'new binding of three tensors',
    await microseconds(5_000, () => {
      using fresh = session.createBinding();
      fresh.bindInput('x', x);
      fresh.bindInput('step', step);
      fresh.bindOutput('y', x);
    }),
  );
}

/** A chain of products of one row, as a decode step is: 60 nodes over the same 4 MiB, so that the memory is not what is measured. */
async function chainedRun(runtime: Runtime, options: SessionOptions): Promise<number> {
  const width = 1024;
  const g = new GraphBuilder('chain', { rows: 'dynamic', from: width, to: width });
  const weight = g.parameter('w', 'float32', ['from', 'to']);
  let x = g.input('x', 'float32', ['rows', 'from']);
  for (let node = 0; node < 60; node++) x = rename(matmul(x, weight), { to: 'from' }) as typeof x;
  g.output('y', x);
  const data = new Uint8Array(width * width * 4);
  using session = runtime.openSession(encodeModel(g.build()), {
    ...options,
    initializers: [{ name: 'w', type: 'float32', shape: [width, width], data }],
  });
  using row = runtime.allocate('float32', [1, width]);
  using binding = session.createBinding();
  binding.bindInput('x', row);
  binding.bindOutput('y', row);
  return microseconds(50, () => binding.run());
}

export default async function runtimeOverhead(): Promise<void> {
  using runtime = openRuntime({ provider: 'cpu' });
  await bareRun(runtime);
  for (const intraOpThreads of [1, 2]) {
    for (const spin of [false, true]) {
      const time = await chainedRun(runtime, { intraOpThreads, spin });
      report(
        `60 products of one row, ${intraOpThreads} threads, ${spin ? 'spinning' : 'not spinning'}`,
        time,
      );
    }
  }
}
