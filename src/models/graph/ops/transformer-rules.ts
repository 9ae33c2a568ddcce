/** Axis rules of ops/transformer.ts. */
import type { Signature } from '../ir.js';
import { describeAxes } from '../ir.js';
import type { TransformerAttributes } from '../op-attributes.js';
import {
  axisAt,
  expectRank,
  expectType,
  meet,
  operand,
  type Rule,
  type RulesOf,
  refuse,
  sameAxes,
  sameType,
  signature,
} from '../rule.js';

const same = ({ type, axes, extents }: Signature): Signature => signature(type, axes, extents);

/** Mean and deviation of each place: the last axis is folded. */
const statistic = (x: Signature): Signature =>
  signature('float32', x.axes.with(-1, '1'), x.extents.with(-1, 1));

/** A weight has the last axis of x and its type. */
function expectWeight(x: Signature, weight: Signature | null | undefined): void {
  if (!weight) return;
  sameType(x, weight);
  const axis = x.axes.at(-1);
  if (axis === undefined || weight.axes.length !== 1 || weight.axes[0] !== axis)
    refuse(`a weight ${describeAxes(weight)} for ${describeAxes(x)}`, `give it the axis '${axis}' alone`);
  meet(axis, x.extents.at(-1)!, weight.extents[0]!);
}

const norm: Rule<'LayerNormalization'> = (inputs) => {
  const x = operand(inputs, 0);
  expectType(x, 'float32', 'float16', 'bfloat16');
  expectWeight(x, operand(inputs, 1));
  expectWeight(x, inputs[2]);
  return [same(x), statistic(x), statistic(x)];
};

const skipNorm: Rule<'SkipLayerNormalization' | 'SkipSimplifiedLayerNormalization'> = (inputs) => {
  const x = operand(inputs, 0);
  const skip = operand(inputs, 1);
  expectRank(x, 3, 'a residual stream');
  sameType(x, skip);
  const sum = signature(x.type, x.axes, sameAxes(x, skip));
  for (const weight of [operand(inputs, 2), inputs[3], inputs[4]]) expectWeight(x, weight);
  return [sum, statistic(x), statistic(x), sum];
};

const rotary: Rule<'RotaryEmbedding'> = (inputs) => {
  const x = operand(inputs, 0);
  const positions = operand(inputs, 1);
  expectRank(x, 4, 'what is rotated: rows, heads, time, head');
  expectType(positions, 'int64');
  sameType(x, operand(inputs, 2), operand(inputs, 3));
  sameAxes(operand(inputs, 2), operand(inputs, 3));
  if (positions.axes[0] !== x.axes[0] || positions.axes[1] !== x.axes[2])
    refuse(
      `positions ${describeAxes(positions)} for ${describeAxes(x)}`,
      'give them the rows and the time of x',
    );
  return [same(x)];
};

/** Key and value caches are [rows, heads, positions, head]; the present ones have another position axis, or the past's own. */
function presentOf(query: Signature, past: Signature | null, name: string, heads: number): Signature {
  if (past === null)
    return signature(
      query.type,
      [query.axes[0]!, 'kv_heads', name, 'head'],
      [query.extents[0]!, heads, null, null],
    );
  sameType(query, past);
  expectRank(past, 4, 'a cache: rows, heads, positions, head');
  meet(past.axes[1]!, past.extents[1]!, heads);
  const position = past.axes[2] === name ? past.extents[2]! : null;
  return signature(past.type, past.axes.with(2, name), past.extents.with(2, position));
}

const groupQuery: Rule<'GroupQueryAttention'> = (inputs, attributes) => {
  const query = operand(inputs, 0);
  const [key, value] = [inputs[1] ?? null, inputs[2] ?? null];
  const { heads, kvHeads, axis, present, rotary: layout } = attributes;
  expectType(query, 'float32', 'float16', 'bfloat16');
  expectRank(query, 3, 'the query: rows, time, heads and head');
  sameType(query, key, value, inputs[7], inputs[8], inputs[10], inputs[11], inputs[14], inputs[15]);
  if ((key === null) !== (value === null))
    refuse('key without value, or value without key', 'pass both or neither');
  if (heads % kvHeads !== 0) refuse(`${heads} heads over ${kvHeads} kv heads`, 'give a divisor');
  const width = query.extents[2]!;
  const packed = key === null ? heads + 2 * kvHeads : heads;
  if (width !== null && width % packed !== 0)
    refuse(`axis '${query.axes[2]}' of ${width} does not hold ${packed} heads`, 'check heads and kvHeads');
  expectType(operand(inputs, 5), 'int32');
  axisAt(operand(inputs, 5), query.axes[0]!);
  expectType(operand(inputs, 6), 'int32');
  expectRank(operand(inputs, 6), 0, 'the total length');
  if ((layout !== 'none') !== (Boolean(inputs[7]) && Boolean(inputs[8])))
    refuse(`rotary is '${layout}'`, 'pass cosine and sine exactly where it is not none');
  const head = width === null ? null : width / packed;
  // Limits of ONNX Runtime's kernels (1.30); the rotation inside the op reads cosines 8 at a time.
  const unit = layout === 'none' ? 8 : 16;
  if (head !== null && head % unit !== 0)
    refuse(
      `a head of ${head} elements with rotary '${layout}'`,
      `it must be a multiple of ${unit}: rotate outside`,
    );
  const out = signature(
    query.type,
    query.axes.with(2, axis),
    query.extents.with(2, head === null ? null : head * heads),
  );
  return [
    out,
    presentOf(query, inputs[3] ?? null, present, kvHeads),
    presentOf(query, inputs[4] ?? null, present, kvHeads),
  ];
};

const multiHead: Rule<'MultiHeadAttention'> = (inputs, { heads, axis, present }) => {
  const [query, key, value] = [operand(inputs, 0), operand(inputs, 1), operand(inputs, 2)];
  sameType(query, key, value, inputs[3], inputs[5]);
  for (const operand of [query, key, value])
    expectRank(operand, 3, 'an operand of attention: rows, time, heads and head');
  if (key.axes[1] !== value.axes[1])
    refuse(`keys ${describeAxes(key)} and values ${describeAxes(value)}`, 'give them one position axis');
  return [
    signature(query.type, query.axes.with(2, axis), query.extents.with(2, value.extents[2]!)),
    presentOf(query, inputs[6] ?? null, present, heads),
    presentOf(query, inputs[7] ?? null, present, heads),
  ];
};

export const transformerRules: RulesOf<TransformerAttributes> = {
  LayerNormalization: norm,
  SimplifiedLayerNormalization: (inputs) => {
    const x = operand(inputs, 0);
    expectType(x, 'float32', 'float16', 'bfloat16');
    expectWeight(x, operand(inputs, 1));
    return [same(x), statistic(x)];
  },
  SkipLayerNormalization: skipNorm,
  SkipSimplifiedLayerNormalization: skipNorm,
  RotaryEmbedding: rotary,
  GroupQueryAttention: groupQuery,
  MultiHeadAttention: multiHead,
};
