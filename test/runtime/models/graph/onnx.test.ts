import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { GraphBuilder } from '../../../../src/models/graph/builder.js';
import { encodeLiteral } from '../../../../src/models/graph/literal.js';
import { encodeModel } from '../../../../src/models/graph/onnx.js';
import * as op from '../../../../src/models/graph/ops.js';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';

const runtime = openRuntime({ provider: 'cpu', threads: 1 });
after(() => runtime[Symbol.dispose]());

/** One step of AdamW (Loshchilov and Hutter 2019) without bias correction, as elementwise nodes. */
const adamW = () => {
  const g = new GraphBuilder('adamw', { weights: 3 });
  const gradient = g.input('gradient', 'float32', ['weights']);
  const weight = g.parameter('weight', 'float32', ['weights']);
  const m = g.parameter('m', 'float32', ['weights']);
  const v = g.parameter('v', 'float32', ['weights']);
  const mNext = op.add(op.mul(m, 0.9), op.mul(gradient, 0.1));
  const vNext = op.add(op.mul(v, 0.99), op.mul(op.mul(gradient, gradient), 0.01));
  const step = op.div(mNext, op.add(op.sqrt(vNext), 1e-8));
  g.output('weight_next', op.sub(op.mul(weight, 1 - 0.1 * 0.01), op.mul(step, 0.1)));
  g.output('m_next', mNext);
  g.output('v_next', vNext);
  return g.build();
};

test('parameters as inputs may be trained in place: outputs bound to their own memory', () => {
  using session = runtime.openSession(encodeModel(adamW(), { parameters: () => ({ kind: 'input' }) }));
  assert.deepEqual(session.inputs.map(({ name }) => name).sort(), ['gradient', 'm', 'v', 'weight']);
  using gradient = runtime.allocateHost('float32', [3]);
  using weight = runtime.allocateHost('float32', [3]);
  using m = runtime.allocateHost('float32', [3]);
  using v = runtime.allocateHost('float32', [3]);
  gradient.write(Float32Array.of(1, -2, 0.5));
  weight.write(Float32Array.of(0.1, 0.2, 0.3));
  using binding = session.createBinding();
  binding.bindInput('gradient', gradient);
  for (const [name, tensor] of Object.entries({ weight, m, v })) {
    binding.bindInput(name, tensor);
    binding.bindOutput(`${name}_next`, tensor);
  }
  const expected = [0.1, 0.2, 0.3].map((start, at) => {
    const slope = [1, -2, 0.5][at]!;
    let [w, first, second] = [start, 0, 0];
    for (let step = 0; step < 3; step++) {
      first = 0.9 * first + 0.1 * slope;
      second = 0.99 * second + 0.01 * slope * slope;
      w = w * (1 - 0.1 * 0.01) - (0.1 * first) / (Math.sqrt(second) + 1e-8);
    }
    return w;
  });
  for (let step = 0; step < 3; step++) binding.run();
  for (const [at, want] of expected.entries()) assert.ok(Math.abs(weight.host![at]! - want) < 1e-6);
});

test('a parameter inside the model needs nobody to supply it', () => {
  const g = new GraphBuilder('inline', { model: 2 });
  g.output('y', op.add(g.input('x', 'float32', ['model']), g.parameter('shift', 'float32', ['model'])));
  const data = encodeLiteral.float32([10, 20]);
  using session = runtime.openSession(
    encodeModel(g.build(), { parameters: () => ({ kind: 'inline', data }) }),
  );
  using x = runtime.allocateHost('float32', [2]);
  using y = runtime.allocateHost('float32', [2]);
  x.write(Float32Array.of(1, 2));
  using binding = session.createBinding();
  binding.bindInput('x', x);
  binding.bindOutput('y', y);
  binding.run();
  assert.deepEqual([...y.host!], [11, 22]);
});

test('a parameter that nobody supplied is refused when the session opens', () => {
  const g = new GraphBuilder('unsupplied', { model: 2 });
  g.output('y', op.add(g.input('x', 'float32', ['model']), g.parameter('shift', 'float32', ['model'])));
  assert.throws(() => runtime.openSession(encodeModel(g.build())), { code: 'runtime_failed' });
});

test('an input may be an output, and a value may be two outputs', () => {
  const g = new GraphBuilder('copies', { model: 2 });
  const x = g.input('x', 'float32', ['model']);
  const doubled = op.mul(x, 2);
  g.output('same', x);
  g.output('once', doubled);
  g.output('twice', doubled);
  using session = runtime.openSession(encodeModel(g.build()));
  using input = runtime.allocateHost('float32', [2]);
  input.write(Float32Array.of(3, 4));
  using binding = session.createBinding();
  binding.bindInput('x', input);
  const results = ['same', 'once', 'twice'].map((name) => {
    const tensor = runtime.allocateHost('float32', [2]);
    binding.bindOutput(name, tensor);
    return tensor;
  });
  binding.run();
  assert.deepEqual(
    results.map((tensor) => [...tensor.host!]),
    [
      [3, 4],
      [6, 8],
      [6, 8],
    ],
  );
  for (const tensor of results) tensor[Symbol.dispose]();
});

test('results that nobody reads are left out where ONNX lets them be, and inputs and outputs carry their axes', () => {
  const g = new GraphBuilder('optional', { rows: 'dynamic', model: 2 });
  const x = g.input('x', 'float32', ['rows', 'model']);
  g.output('normed', op.rmsNorm(x, g.constant('float32', [1, 2], ['model']), 1e-5));
  using session = runtime.openSession(encodeModel(g.build()));
  assert.deepEqual(session.outputs, [{ name: 'normed', type: 'float32', shape: [null, 2] }]);
});
