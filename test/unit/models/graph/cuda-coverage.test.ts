import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GraphBuilder } from '../../../../src/models/graph/builder.js';
import {
  add,
  cast,
  extentValue,
  groupQueryAttention,
  matmul,
  neg,
  range,
  reduceMax,
  reduceSum,
  squeeze,
} from '../../../../src/models/graph/ops.js';
import { coversVersion, hostCopies, missingCudaKernels } from '../../../cuda-coverage.js';

test("an open range 'N+' covers version N alone; '[a, b]' covers all between", () => {
  assert.deepEqual(
    [
      coversVersion('13+', 13),
      coversVersion('13+', 14),
      coversVersion('[13, 18]', 14),
      coversVersion('[19, 20]', 18),
    ],
    [true, false, true, false],
  );
});

test('nodes without a CUDA kernel are listed by op, version and type', () => {
  const g = new GraphBuilder('gaps', {
    time: 'dynamic',
    rows: 'dynamic',
    qkv: 64,
    kv: 1,
    positions: 8,
    head: 16,
  });
  const cache = ['rows', 'kv', 'positions', 'head'] as const;
  // Range has kernels, but none for float16; attention has none for float32.
  const limit = g.input('limit', 'float32', []);
  const { attended } = groupQueryAttention(
    {
      query: g.input('query', 'float32', ['rows', 'time', 'qkv']),
      pastKey: g.input('pastKey', 'float32', cache),
      pastValue: g.input('pastValue', 'float32', cache),
      lastPosition: g.input('last', 'int32', ['rows']),
      totalLength: g.input('total', 'int32', []),
    },
    { heads: 2, kvHeads: 1, axis: 'attended', present: 'positions' },
  );
  g.output('attended', attended);
  g.output('sum', reduceSum(range(limit, 'time'), ['time']));
  assert.deepEqual(missingCudaKernels(g.build()), [
    {
      domain: 'com.microsoft',
      op: 'GroupQueryAttention',
      version: 1,
      type: 'float32',
      nodes: ['GroupQueryAttention'],
    },
  ]);
});

test('a float16 product with a float32 sum is covered', () => {
  const g = new GraphBuilder('covered', { rows: 'dynamic', model: 4, ffn: 6 });
  const x = g.input('x', 'float16', ['rows', 'model']);
  const y = cast(matmul(x, g.parameter('w', 'float16', ['model', 'ffn'])), 'float32');
  g.output('y', add(y, 1));
  assert.deepEqual(missingCudaKernels(g.build()), []);
});

test('an extent that a kernel wants on the device, and a shape computed there, are copies; extents for Reshape and Range are none', () => {
  const g = new GraphBuilder('copies', { rows: 'dynamic', time: 'dynamic' });
  const x = g.input('x', 'int64', ['rows', 'time']);
  const time = extentValue(x, 'time');
  const doubled = add(time, time);
  const columns = range(squeeze(doubled, []), 'time');
  g.output('free', columns);
  assert.deepEqual(hostCopies(g.build()), []);

  g.output('up', add(columns, time as never));
  g.output('both', add(add(x, time as never), 1));
  g.output('negated', neg(x));
  const longest = reduceMax(columns, ['time']);
  g.output('down', range(longest, 'time'));
  assert.deepEqual(hostCopies(g.build()), [
    'Add_2 reads Shape',
    'Range_2 reads ReduceMax',
    'x is read on both',
  ]);
});
