import type { LinearAttributes } from '../../../../src/models/graph/op-attributes.js';
import * as op from '../../../../src/models/graph/ops.js';
import { type Example, feed, normal, read, sum, tensorOf } from './example.js';

const axes = { rows: 'dynamic', time: 3, keys: 5, model: 4, ffn: 6 } as const;
const x = normal(21, [2, 3, 4]);
const w = normal(22, [4, 6]);
const wide = normal(23, [2, 5, 4]);
const gradient = normal(24, [2, 3, 6]);

/** Blocks of 32 along k with an unsigned value and a scale each; `bits` 4 puts two values in a byte, low half first. */
const blockWeight = (bits: 4 | 8, outputs: number, k: number) => {
  const blocks = Math.ceil(k / 32);
  const levels = feed(
    'uint8',
    [outputs, blocks * 32],
    tensorOf([outputs, blocks * 32], (n, i) => (n * 37 + i * 11 + (i >> 3)) % 2 ** bits),
  );
  const scales = normal(25, [outputs, blocks], 0.1);
  const perByte = 8 / bits;
  const data = Array.from({ length: levels.data.length / perByte }, (_, at) =>
    bits === 8 ? levels.data[at]! : levels.data[2 * at]! | (levels.data[2 * at + 1]! << 4),
  );
  return { levels, scales, data, blocks, bytes: 32 / perByte };
};

const weightAt =
  ({ levels, scales }: ReturnType<typeof blockWeight>, zero: (n: number, block: number) => number) =>
  (n: number, i: number): number =>
    (read(levels)(n, i) - zero(n, i >> 5)) * read(scales)(n, i >> 5);

function nbits(bits: 4 | 8, accuracyLevel: 0 | 4): Example {
  const [outputs, k] = [3, 64];
  const weight = blockWeight(bits, outputs, k);
  const input = normal(26, [2, k]);
  const at = weightAt(weight, () => 2 ** (bits - 1));
  return {
    what: `${bits} bits around the middle, accuracy level ${accuracyLevel}, with a bias`,
    axes: { rows: 'dynamic', model: k, ffn: outputs, blocks: weight.blocks, bytes: weight.bytes },
    feeds: {
      x: input,
      b: feed('uint8', [outputs, weight.blocks, weight.bytes], weight.data),
      scales: weight.scales,
      bias: feed('float32', [outputs], [1, -2, 3]),
    },
    build: (g) => [
      op.matmulNBits(
        g.input('x', 'float32', ['rows', 'model']),
        {
          blocks: g.parameter('b', 'uint8', ['ffn', 'blocks', 'bytes']),
          scales: g.parameter('scales', 'float32', ['ffn', 'blocks']),
        },
        { bits, block: 32, accuracyLevel },
        g.parameter('bias', 'float32', ['ffn']),
      ),
    ],
    expected: [
      tensorOf([2, outputs], (r, n) => sum(k, (i) => read(input)(r, i) * at(n, i)) + [1, -2, 3][n]!),
    ],
    // Level 4 rounds the activations to 8 bits a block.
    tolerance: accuracyLevel === 4 ? 2e-2 : 1e-5,
  };
}

function nbitsZeroPoints(): Example {
  const [outputs, k] = [3, 64];
  const weight = blockWeight(4, outputs, k);
  const input = normal(27, [2, k]);
  const zeros = [0x53, 0x1f, 0x80];
  const at = weightAt(weight, (n, block) => (zeros[n]! >> (4 * block)) & 15);
  return {
    what: '4 bits around packed zero points',
    axes: { rows: 'dynamic', model: k, ffn: outputs, blocks: 2, bytes: 16, zeros: 1 },
    feeds: {
      x: input,
      b: feed('uint8', [outputs, 2, 16], weight.data),
      scales: weight.scales,
      zeroPoints: feed('uint8', [outputs, 1], zeros),
    },
    build: (g) => [
      op.matmulNBits(
        g.input('x', 'float32', ['rows', 'model']),
        {
          blocks: g.parameter('b', 'uint8', ['ffn', 'blocks', 'bytes']),
          scales: g.parameter('scales', 'float32', ['ffn', 'blocks']),
          zeroPoints: g.parameter('zeroPoints', 'uint8', ['ffn', 'zeros']),
        },
        { bits: 4, block: 32, accuracyLevel: 0 },
      ),
    ],
    expected: [tensorOf([2, outputs], (r, n) => sum(k, (i) => read(input)(r, i) * at(n, i)))],
    tolerance: 1e-5,
  };
}

function quantizedTable(bits: 4 | 8): Example {
  const weight = blockWeight(bits, 5, 64);
  const tokens = feed('int64', [2], [4, 1]);
  const at = weightAt(weight, () => 2 ** (bits - 1));
  return {
    what: `rows of a table in ${bits} bits`,
    axes: { tokens: 'dynamic', vocabulary: 5, model: 64, packed: (64 * bits) / 8, blocks: 2 },
    feeds: { tokens, data: feed('uint8', [5, (64 * bits) / 8], weight.data), scales: weight.scales },
    build: (g) => [
      op.gatherBlockQuantized(
        {
          data: g.parameter('data', 'uint8', ['vocabulary', 'packed']),
          scales: g.parameter('scales', 'float32', ['vocabulary', 'blocks']),
        },
        g.input('tokens', 'int64', ['tokens']),
        { bits, block: 32, axis: 'model' },
      ),
    ],
    expected: [tensorOf([2, 64], (t, i) => at(tokens.data[t]!, i))],
  };
}

const scale = feed('float32', [4], [0.5, 0.25, 2, 1]);
const zero = feed('int8', [4], [0, 1, -3, 5]);

export const linearExamples: { readonly [K in keyof LinearAttributes]: readonly Example[] } = {
  MatMul: [
    {
      what: 'activations times a weight',
      axes,
      feeds: { x, w },
      build: (g) => [
        op.matmul(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.parameter('w', 'float32', ['model', 'ffn']),
        ),
      ],
      expected: [tensorOf([2, 3, 6], (i, j, n) => sum(4, (k) => read(x)(i, j, k) * read(w)(k, n)))],
      tolerance: 1e-5,
    },
    {
      what: 'a product for each row of a batch',
      axes,
      feeds: { x, y: normal(28, [2, 4, 5]) },
      build: (g) => [
        op.matmulBatched(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.input('y', 'float32', ['rows', 'model', 'keys']),
        ),
      ],
      expected: [
        tensorOf([2, 3, 5], (i, j, n) =>
          sum(4, (k) => read(x)(i, j, k) * read(normal(28, [2, 4, 5]))(i, k, n)),
        ),
      ],
      tolerance: 1e-5,
    },
  ],
  FusedMatMul: [
    {
      what: 'scores of queries and keys: the right side transposed, scaled',
      axes,
      feeds: { x, wide },
      build: (g) => [
        op.fusedMatmul(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.input('wide', 'float32', ['rows', 'keys', 'model']),
          { right: 'transposed', alpha: 0.5 },
        ),
      ],
      expected: [
        tensorOf([2, 3, 5], (i, j, n) => 0.5 * sum(4, (k) => read(x)(i, j, k) * read(wide)(i, n, k))),
      ],
      tolerance: 1e-5,
    },
    {
      what: 'the gradient of a weight: the left side transposed',
      axes,
      feeds: { x, gradient },
      build: (g) => [
        op.fusedMatmul(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.input('gradient', 'float32', ['rows', 'time', 'ffn']),
          { left: 'transposed' },
        ),
      ],
      expected: [tensorOf([2, 4, 6], (i, k, n) => sum(3, (j) => read(x)(i, j, k) * read(gradient)(i, j, n)))],
      tolerance: 1e-5,
    },
    {
      what: "a weight in Hugging Face's [out, in]",
      axes,
      feeds: { x, w: normal(29, [6, 4]) },
      build: (g) => [
        op.linear(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.parameter('w', 'float32', ['ffn', 'model']),
        ),
      ],
      expected: [
        tensorOf([2, 3, 6], (i, j, n) => sum(4, (k) => read(x)(i, j, k) * read(normal(29, [6, 4]))(n, k))),
      ],
      tolerance: 1e-5,
    },
  ],
  MatMulNBits: [nbits(8, 0), nbits(4, 0), nbits(8, 4), nbits(4, 4), nbitsZeroPoints()],
  GatherBlockQuantized: [quantizedTable(8), quantizedTable(4)],
  QuantizeLinear: [
    {
      what: 'a scale and a zero point for each place of an axis',
      axes,
      feeds: { x, scale, zero },
      build: (g) => [
        op.quantizeLinear(
          g.input('x', 'float32', ['rows', 'time', 'model']),
          g.parameter('scale', 'float32', ['model']),
          g.parameter('zero', 'int8', ['model']),
        ),
      ],
      expected: [
        tensorOf([2, 3, 4], (i, j, k) => Math.round(read(x)(i, j, k) / scale.data[k]!) + zero.data[k]!),
      ],
    },
  ],
  DequantizeLinear: [
    {
      what: 'a scale and a zero point for each place of an axis',
      axes: { rows: 'dynamic', model: 4 },
      feeds: { x: feed('int8', [2, 4], [-128, -1, 0, 127, 3, 2, 1, -5]), scale, zero },
      build: (g) => [
        op.dequantizeLinear(
          g.input('x', 'int8', ['rows', 'model']),
          g.parameter('scale', 'float32', ['model']),
          g.parameter('zero', 'int8', ['model']),
        ),
      ],
      expected: [
        [-128, -1, 0, 127, 3, 2, 1, -5].map((v, at) => (v - zero.data[at % 4]!) * scale.data[at % 4]!),
      ],
    },
  ],
};
