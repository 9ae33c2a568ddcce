import { AppError } from '../../core/errors.js';
import type { ElementType, HostArrayOf } from './session.js';

interface ElementTypeFacts<E extends ElementType> {
  /** TensorProto.DataType and ONNXTensorElementDataType agree on these numbers. */
  readonly onnx: number;
  readonly bytes: number;
  readonly array: new (buffer: ArrayBuffer, byteOffset: number, length: number) => HostArrayOf[E];
}

const facts = {
  float32: { onnx: 1, bytes: 4, array: Float32Array },
  uint8: { onnx: 2, bytes: 1, array: Uint8Array },
  int8: { onnx: 3, bytes: 1, array: Int8Array },
  int32: { onnx: 6, bytes: 4, array: Int32Array },
  int64: { onnx: 7, bytes: 8, array: BigInt64Array },
  bool: { onnx: 9, bytes: 1, array: Uint8Array },
  float16: { onnx: 10, bytes: 2, array: Uint16Array },
  bfloat16: { onnx: 16, bytes: 2, array: Uint16Array },
} as const satisfies { readonly [E in ElementType]: ElementTypeFacts<E> };

const typeOfCode: ReadonlyMap<number, ElementType> = new Map(
  Object.entries(facts).map(([type, { onnx }]) => [onnx, type as ElementType]),
);

export const onnxCode = (type: ElementType): number => facts[type].onnx;

/** null for an ONNX type that this project has no use for (strings, complex numbers, 4-bit integers). */
export const elementTypeOf = (code: number): ElementType | null => typeOfCode.get(code) ?? null;

export const elementBytes = (type: ElementType): number => facts[type].bytes;

export const hostArray = <E extends ElementType>(
  type: E,
  buffer: ArrayBuffer,
  byteOffset: number,
  length: number,
): HostArrayOf[E] => {
  const { array } = facts[type] as unknown as ElementTypeFacts<E>;
  return new array(buffer, byteOffset, length);
};

export const elementCount = (shape: readonly number[]): number =>
  shape.reduce((count, size) => count * size, 1);

/** `float32[2, 3]`, or `int64[?, 4]` with a dynamic axis: how messages print a type and shape. */
export const describe = (type: ElementType, shape: readonly (number | null)[]): string =>
  `${type}[${shape.map((size) => size ?? '?').join(', ')}]`;

/** @throws AppError `runtime_failed` unless every size is an integer of at least 0 */
export function checkShape(shape: readonly number[]): void {
  if (shape.every((size) => Number.isSafeInteger(size) && size >= 0)) return;
  throw new AppError('runtime_failed', `Shape [${shape.join(', ')}] has a size that is not a whole number.`);
}
