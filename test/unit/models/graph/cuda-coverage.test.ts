import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GraphBuilder } from '../../../../src/models/graph/builder.js';
import {
  add,
  cast,
  groupQueryAttention,
  matmul,
  range,
  reduceSum,
} from '../../../../src/models/graph/ops.js';
import { coversVersion, missingCudaKernels } from '../../../cuda-coverage.js';

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
