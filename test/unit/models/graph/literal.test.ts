import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bfloat16Bits, encodeLiteral, float16Bits } from '../../../../src/models/graph/literal.js';

/** Value of binary16 bits, by its definition. */
const float16 = (bits: number): number => {
  const [sign, exponent, mantissa] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return mantissa ? Number.NaN : sign * Infinity;
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
};

test('every float16 survives, and what lies between two rounds to the nearer, or to the even one', () => {
  for (let bits = 0; bits < 0x10000; bits++) {
    const value = float16(bits);
    if (Number.isNaN(value)) assert.ok(Number.isNaN(float16(float16Bits(value))));
    else assert.equal(float16Bits(value), bits);
    const next = float16(bits + 1);
    if (Number.isFinite(value) && Number.isFinite(next) && (bits & 0x7fff) < 0x7bff) {
      const middle = (value + next) / 2;
      assert.equal(float16Bits(middle), bits % 2 === 0 ? bits : bits + 1, `between ${value} and ${next}`);
    }
  }
  assert.equal(float16(float16Bits(65519)), 65504);
  assert.equal(float16(float16Bits(65520)), Infinity);
});

test('bfloat16 rounds to even and keeps NaN', () => {
  assert.equal(bfloat16Bits(1), 0x3f80);
  assert.equal(bfloat16Bits(1 + 2 ** -8), 0x3f80);
  assert.equal(bfloat16Bits(1 + 3 * 2 ** -8), 0x3f82);
  assert.ok((bfloat16Bits(Number.NaN) & 0x7fff) > 0x7f80);
});

test('integers are little-endian, int64 in eight bytes', () => {
  assert.deepEqual([...encodeLiteral.int64([-2])], [254, 255, 255, 255, 255, 255, 255, 255]);
  assert.deepEqual([...encodeLiteral.int32([258])], [2, 1, 0, 0]);
});
