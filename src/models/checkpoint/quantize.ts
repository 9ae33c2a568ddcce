/**
 * Symmetric block quantisation for MatMulNBits: blocks of 32 or 64 inputs of one output, one float32 scale each, no zero points
 * (the operator then takes 128 for 8 bits and 8 for 4 bits). B is [out, in / block, block * bits / 8] of uint8; at 4 bits the first
 * element of a pair is the low half of its byte. A last block that is not full is filled with zeros.
 */

export interface Blocking {
  readonly bits: 8 | 4;
  /** Inputs that share a scale. MatMulNBits quantises activations by the same blocks. */
  readonly block: 32 | 64;
}

export const blocksOf = (inputs: number, { block }: Blocking): number => Math.ceil(inputs / block);
export const bytesPerBlock = ({ bits, block }: Blocking): number => (block * bits) / 8;

export interface QuantizedRows {
  /** [rows, blocksOf(inputs), bytesPerBlock] */
  readonly data: Uint8Array;
  /** [rows, blocksOf(inputs)] */
  readonly scales: Float32Array;
}

/** Rounds one block: writes the bytes of its `count` values (less than a block's at a row's end) and gives its scale. */
type BlockRounding = (
  values: Float32Array,
  start: number,
  count: number,
  data: Uint8Array,
  at: number,
) => number;

/** 8 bits: the largest magnitude becomes 127. A search of the scale gains 1 % of an error that is far below the activations' own. */
const roundInt8: BlockRounding = (values, start, count, data, at) => {
  let largest = 0;
  for (let i = 0; i < count; i++) {
    const magnitude = Math.abs(values[start + i] as number);
    if (magnitude > largest) largest = magnitude;
  }
  const scale = Math.fround(largest / 127);
  const inverse = scale === 0 ? 0 : 1 / scale;
  for (let i = 0; i < count; i++) data[at + i] = Math.round((values[start + i] as number) * inverse) + 128;
  return scale;
};

/**
 * 4 bits: levels -8 .. 7, and the value of largest magnitude becomes -8 (llama.cpp's Q4_0 rule). Scales fitted by least squares have a
 * tenth less error in the weights and a higher KL: they shrink the outliers (docs/decisions/0003).
 */
const roundInt4: BlockRounding = (values, start, count, data, at) => {
  let largest = 0;
  for (let i = 0; i < count; i++) {
    const value = values[start + i] as number;
    if (Math.abs(value) > Math.abs(largest)) largest = value;
  }
  if (largest === 0) return 0;
  const inverse = -8 / largest;
  for (let i = 0; i < count; i++) {
    const nibble = Math.min(7, Math.round((values[start + i] as number) * inverse)) + 8;
    const index = at + (i >> 1);
    const byte = data[index] as number;
    data[index] = i & 1 ? (byte & 0x0f) | (nibble << 4) : (byte & 0xf0) | nibble;
  }
  return Math.fround(largest / -8);
};

const roundings = { 8: roundInt8, 4: roundInt4 } as const satisfies Record<Blocking['bits'], BlockRounding>;

/** Bytes of zeros. */
const zeros = { 8: 128, 4: 0x88 } as const satisfies Record<Blocking['bits'], number>;

/** Quantises whole rows [rows, inputs]. */
export function quantizeRows(values: Float32Array, inputs: number, blocking: Blocking): QuantizedRows {
  const { bits, block: size } = blocking;
  const rows = values.length / inputs;
  const blocks = blocksOf(inputs, blocking);
  const blockBytes = bytesPerBlock(blocking);
  const data = new Uint8Array(rows * blocks * blockBytes).fill(zeros[bits]);
  const scales = new Float32Array(rows * blocks);
  const round = roundings[bits];
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const at = row * blocks + block;
      const first = block * size;
      scales[at] = round(values, row * inputs + first, Math.min(size, inputs - first), data, at * blockBytes);
    }
  }
  return { data, scales };
}

/** The values that MatMulNBits computes with: [rows, inputs]. */
export function dequantizeRows(
  { data, scales }: QuantizedRows,
  inputs: number,
  blocking: Blocking,
): Float32Array {
  const { bits, block: size } = blocking;
  const blocks = blocksOf(inputs, blocking);
  const rows = scales.length / blocks;
  const values = new Float32Array(rows * inputs);
  for (let row = 0; row < rows; row++) {
    for (let input = 0; input < inputs; input++) {
      const block = row * blocks + Math.floor(input / size);
      const within = input % size;
      const byte = data[block * bytesPerBlock(blocking) + ((within * bits) >> 3)] as number;
      const level = bits === 8 ? byte - 128 : ((byte >> ((within & 1) * 4)) & 0x0f) - 8;
      values[row * inputs + input] = level * (scales[block] as number);
    }
  }
  return values;
}
