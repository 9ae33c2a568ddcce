/** What the compiler refuses. Each `@ts-expect-error` fails the build if the line below it should ever compile. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '../../../../src/core/errors.js';
import { GraphBuilder } from '../../../../src/models/graph/builder.js';
import type { FloatType, Value } from '../../../../src/models/graph/ir.js';
import * as op from '../../../../src/models/graph/ops.js';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** The static type of a value, spelled out. */
const expectType = <Wanted, Found extends Wanted>(_: Found, exact: Equal<Wanted, Found>): void =>
  assert.equal(exact, true);

const operands = () => {
  const g = new GraphBuilder('types', {
    rows: 'dynamic',
    time: 'dynamic',
    model: 4,
    ffn: 6,
    heads: 2,
    head: 2,
  });
  return {
    g,
    x: g.input('x', 'float32', ['rows', 'time', 'model']),
    w: g.parameter('w', 'float32', ['model', 'ffn']),
    half: g.parameter('half', 'float16', ['model', 'ffn']),
    bias: g.parameter('bias', 'float32', ['model']),
    tokens: g.input('tokens', 'int64', ['rows', 'time']),
  };
};

const refused = { code: 'graph_invalid' };

test('a product takes its right axes from the weight, and only of an equal inner axis and type', () => {
  const { x, w, half } = operands();
  const y = op.matmul(x, w);
  expectType<Value<'float32', readonly ['rows', 'time', 'ffn']>, typeof y>(y, true);
  // @ts-expect-error ffn meets model
  assert.throws(() => op.matmul(y, w), refused);
  // @ts-expect-error float32 meets float16
  assert.throws(() => op.matmul(x, half), refused);
  // @ts-expect-error the weight is [in, out]
  assert.throws(() => op.linear(x, w), refused);
  const z = op.fusedMatmul(y, w, { right: 'transposed' });
  expectType<Value<'float32', readonly ['rows', 'time', 'model']>, typeof z>(z, true);
  // @ts-expect-error the right side is not transposed
  assert.throws(() => op.fusedMatmul(y, w, {}), refused);
});

test('a broadcast lines axes up by name', () => {
  const { x, w, bias } = operands();
  const sum = op.add(x, bias);
  expectType<Value<'float32', readonly ['rows', 'time', 'model']>, typeof sum>(sum, true);
  const mean = op.reduceMean(x, ['model'], 'kept');
  expectType<Value<'float32', readonly ['rows', 'time', '1']>, typeof mean>(mean, true);
  const centred = op.sub(x, mean);
  expectType<typeof x, typeof centred>(centred, true);
  // @ts-expect-error ffn meets model
  assert.throws(() => op.add(x, op.reduceSum(w, ['model'])), refused);
  // @ts-expect-error time meets model: a mean of dropped rank does not line up
  assert.throws(() => op.sub(x, op.reduceMean(x, ['model'])), refused);
});

test('reductions and lookups know the axes they leave', () => {
  const { x, w, tokens } = operands();
  const best = op.argMax(x, 'time');
  expectType<Value<'int64', readonly ['rows', 'model']>, typeof best>(best, true);
  // @ts-expect-error there is no such axis
  assert.throws(() => op.softmax(x, 'ffn'), refused);
  // @ts-expect-error there is no such axis
  assert.throws(() => op.reduceSum(x, ['ffn']), refused);
  const embedded = op.gather(w, 'model', tokens);
  expectType<Value<'float32', readonly ['rows', 'time', 'ffn']>, typeof embedded>(embedded, true);
  // @ts-expect-error an index is an integer
  assert.throws(() => op.gather(w, 'model', x), refused);
});

test('axes that are split, merged, cut and turned keep their names straight', () => {
  const { x } = operands();
  const split = op.splitAxis(x, 'model', ['heads', 'head']);
  expectType<Value<'float32', readonly ['rows', 'time', 'heads', 'head']>, typeof split>(split, true);
  const turned = op.transpose(split, ['rows', 'heads', 'time', 'head']);
  expectType<Value<'float32', readonly ['rows', 'heads', 'time', 'head']>, typeof turned>(turned, true);
  // @ts-expect-error an order must name every axis
  assert.throws(() => op.transpose(split, ['rows', 'heads', 'time']), refused);
  const merged = op.mergeAxes(split, ['heads', 'head'], 'model');
  expectType<Value<'float32', readonly ['rows', 'time', 'model']>, typeof merged>(merged, true);
  const [a, b] = op.split(x, 'model', ['heads', 'head']);
  expectType<Value<'float32', readonly ['rows', 'time', 'heads']>, typeof a>(a, true);
  expectType<Value<'float32', readonly ['rows', 'time', 'head']>, typeof b>(b, true);
});

test('a block generic in its type and axes needs no cast', () => {
  const block = <E extends FloatType, L extends readonly string[], N extends string>(
    x: Value<E, readonly [...L, 'model']>,
    weight: Value<E, readonly ['model', N]>,
    bias: Value<E, readonly [N]>,
  ): Value<E, readonly [...L, N]> => op.add(op.matmul(x, weight), bias);
  const { g, x, w } = operands();
  const y = block(x, w, g.parameter('shift', 'float32', ['ffn']));
  expectType<Value<'float32', readonly ['rows', 'time', 'ffn']>, typeof y>(y, true);
});

test('a refusal names the node in its scope, both operands with their axes, and the way out', () => {
  const { g, x, w } = operands();
  assert.throws(
    () => g.scope('layers.3.mlp', () => op.add(x as Value<'float32'>, w as Value<'float32'>)),
    (error) =>
      error instanceof AppError &&
      error.param === 'layers.3.mlp.Add' &&
      error.message ===
        "Add at layers.3.mlp.Add of (float32[rows, time, model=4], float32[model=4, ffn=6]): axes [rows, time, model=4] and [model=4, ffn=6] do not line up: 'time' meets 'model'; align one to the other's axes (unsqueeze puts '1' where an axis is missing), transpose it, or rename it",
  );
});
