/** Numbers known when a graph is built, as bytes in an element type's own layout (little-endian). */
import type { ElementType } from './ir.js';

const bytesOf = (array: ArrayBufferView): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

const bitsOf = (value: number): number => {
  float[0] = value;
  return bits[0]!;
};

/** IEEE 754 binary16, rounded to even from float32. */
export function float16Bits(value: number): number {
  const word = bitsOf(value);
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: a multiple of 2^-24; scaling is exact, the rounding of the sum is to even.
    const steps = Math.abs(Math.fround(value)) * 2 ** 24;
    const floor = Math.floor(steps);
    const rest = steps - floor;
    return sign | (floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0));
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** The upper half of float32, rounded to even. */
export function bfloat16Bits(value: number): number {
  const word = bitsOf(value);
  if ((word & 0x7fffffff) > 0x7f800000) return (word >>> 16) | 0x40;
  return (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
}

export const encodeLiteral: { readonly [E in ElementType]: (values: readonly number[]) => Uint8Array } = {
  float32: (values) => bytesOf(Float32Array.from(values)),
  float16: (values) => bytesOf(Uint16Array.from(values, float16Bits)),
  bfloat16: (values) => bytesOf(Uint16Array.from(values, bfloat16Bits)),
  int64: (values) => bytesOf(BigInt64Array.from(values, BigInt)),
  int32: (values) => bytesOf(Int32Array.from(values)),
  int8: (values) => bytesOf(Int8Array.from(values)),
  uint8: (values) => bytesOf(Uint8Array.from(values)),
  bool: (values) => bytesOf(Uint8Array.from(values, (value) => (value === 0 ? 0 : 1))),
};
