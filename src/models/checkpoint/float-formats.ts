/** Conversions between float32 and the 16-bit formats, whose host form is their bits. Round to nearest, ties to even, as hardware does. */

const FLOAT16_VALUES = 65_536;
const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

/** Value of one float16 given by its bits. */
function decodeFloat16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

let float16Table: Float32Array | null = null;

/** Every float16 as float32: a lookup is faster than any arithmetic here. */
function float16Values(): Float32Array {
  float16Table ??= Float32Array.from({ length: FLOAT16_VALUES }, (_, bits) => decodeFloat16(bits));
  return float16Table;
}

export function float16ToFloat32(from: Uint16Array, into: Float32Array): void {
  const table = float16Values();
  for (let index = 0; index < from.length; index++) into[index] = table[from[index] as number] as number;
}

export function bfloat16ToFloat32(from: Uint16Array, into: Float32Array): void {
  const bits = new Uint32Array(into.buffer, into.byteOffset, into.length);
  for (let index = 0; index < from.length; index++) bits[index] = (from[index] as number) << 16;
}

/** float16 bits of the float32 whose bits are given. Beyond 65,504 it becomes an infinity. */
function encodeFloat16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) return sign | 0x7e00;
  if (magnitude >= 0x4780_0000) return sign | 0x7c00;
  if (magnitude >= 0x3880_0000) {
    const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
    return sign | ((rounded - 0x3800_0000) >>> 13);
  }
  // Subnormal: a multiple of 2^-24; adding 0.5 aligns the float32's fraction to that grid and rounds it in hardware.
  word[0] = magnitude;
  wordAsFloat[0] = (wordAsFloat[0] as number) + 0.5;
  return sign | ((word[0] as number) - 0x3f00_0000);
}

export function float32ToFloat16(from: Float32Array, into: Uint16Array): void {
  const bits = new Uint32Array(from.buffer, from.byteOffset, from.length);
  for (let index = 0; index < bits.length; index++) into[index] = encodeFloat16(bits[index] as number);
}

export function float32ToBfloat16(from: Float32Array, into: Uint16Array): void {
  const bits = new Uint32Array(from.buffer, from.byteOffset, from.length);
  for (let index = 0; index < bits.length; index++) {
    const value = bits[index] as number;
    const notANumber = (value & 0x7fff_ffff) > 0x7f80_0000;
    into[index] = notANumber ? (value >>> 16) | 0x40 : (value + 0x7fff + ((value >>> 16) & 1)) >>> 16;
  }
}

/** Whether every value is finite: a NaN or an infinity times zero is NaN, and a sum keeps it. */
export function allFinite(values: Float32Array): boolean {
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += (values[index] as number) * 0;
  return sum === 0;
}
