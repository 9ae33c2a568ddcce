/**
 * The weights that a decoder graph wants, made once from a checkpoint and written as one safetensors file: stacked, converted, quantised.
 * Works a matrix at a time in pieces of rows, so memory stays at a few megabytes whatever the model's size; the file then backs every
 * session that opens it.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../../core/errors.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { float32ToFloat16 } from '../checkpoint/float-formats.js';
import { type Blocking, quantizeRows } from '../checkpoint/quantize.js';
import { elementCount, SafetensorsFile, type StoredType } from '../checkpoint/safetensors.js';
import { SafetensorsWriter } from '../checkpoint/safetensors-writer.js';
import type { LeadingFactor, MatrixSource, TensorPart, WeightSpec, WeightType } from './decoder.js';

const storedTypes: Readonly<Record<WeightType, StoredType>> = { float32: 'F32', float16: 'F16', uint8: 'U8' };

/** Elements of a matrix held at a time. */
const PIECE_ELEMENTS = 1 << 20;

/** Rows of a stacked matrix, from its first output on. */
interface RowPiece {
  readonly firstRow: number;
  /** [rows, inputs] */
  readonly values: Float32Array;
}

/** Bump when the same specs would give other bytes. */
const RECIPE = 2;

/** One name for what the specs ask of one checkpoint, so that a cache never serves another graph's weights. */
export function preparedName(contentHash: string, specs: readonly WeightSpec[]): string {
  const recipe = JSON.stringify(specs, (key, value: unknown) =>
    key === 'values'
      ? createHash('sha256')
          .update(value as Float32Array)
          .digest('hex')
      : value,
  );
  const hash = createHash('sha256').update(`${RECIPE}\n${contentHash}\n${recipe}`).digest('hex');
  return `weights-${hash.slice(0, 32)}.safetensors`;
}

/**
 * The prepared file of a checkpoint, made where the cache does not hold it yet. A file that is there but broken is made again.
 * Throws `checkpoint_invalid` for a tensor that is absent, has another shape, or holds a NaN.
 */
export function prepareWeights(
  openCheckpoint: () => Checkpoint,
  specs: readonly WeightSpec[],
  cache: { readonly directory: string; readonly contentHash: string },
): SafetensorsFile {
  const path = join(cache.directory, preparedName(cache.contentHash, specs));
  if (existsSync(path)) {
    try {
      return new SafetensorsFile(path);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
    }
  }
  using checkpoint = openCheckpoint();
  writePrepared(checkpoint, specs, path);
  return new SafetensorsFile(path);
}

function writePrepared(checkpoint: Checkpoint, specs: readonly WeightSpec[], path: string): void {
  // Largest first keeps every tensor aligned: sizes of large ones are multiples of 64.
  const byAlignment = [...specs].sort((a, b) => elementCount(b.shape) - elementCount(a.shape));
  using writer = new SafetensorsWriter(
    path,
    byAlignment.map(({ name, type, shape }) => ({ name, type: storedTypes[type], shape })),
  );
  for (const spec of specs) writeWeight(checkpoint, writer, spec, specs);
  writer.commit();
}

function writeWeight(
  checkpoint: Checkpoint,
  writer: SafetensorsWriter,
  spec: WeightSpec,
  specs: readonly WeightSpec[],
): void {
  const { source } = spec;
  if (source.kind === 'computed') writeFloats(writer, spec, source.values, 0);
  else if (source.kind === 'vector') {
    const values = readVector(checkpoint, source.parts);
    scaleLeading(values, 1, 0, source.scaled);
    writeFloats(writer, spec, values, 0);
  } else if (source.kind === 'matrix') {
    for (const { firstRow, values } of readRows(checkpoint, source.matrix)) {
      writeFloats(writer, spec, values, firstRow * source.matrix.inputs);
    }
  } else if (source.kind === 'blocks') {
    writeBlocks(checkpoint, writer, spec.name, source, scalesOf(source.matrix, specs));
  }
}

/** The spec of the scales of the same matrix: blocks and scales come out of one pass. */
function scalesOf(matrix: MatrixSource, specs: readonly WeightSpec[]): string {
  const spec = specs.find(({ source }) => source.kind === 'scales' && source.matrix === matrix);
  if (spec === undefined) throw new Error(`no scales for the blocks of ${matrix.parts[0]?.tensor}`);
  return spec.name;
}

function writeBlocks(
  checkpoint: Checkpoint,
  writer: SafetensorsWriter,
  blocksName: string,
  source: { readonly blocking: Blocking; readonly matrix: MatrixSource },
  scalesName: string,
): void {
  let blockBytes = 0;
  let scaleBytes = 0;
  for (const { values } of readRows(checkpoint, source.matrix)) {
    const { data, scales } = quantizeRows(values, source.matrix.inputs, source.blocking);
    writer.write(blocksName, data, blockBytes);
    writer.write(scalesName, scales, scaleBytes);
    blockBytes += data.byteLength;
    scaleBytes += scales.byteLength;
  }
}

function writeFloats(writer: SafetensorsWriter, spec: WeightSpec, values: Float32Array, first: number): void {
  if (spec.type !== 'float16') {
    writer.write(spec.name, values, first * 4);
    return;
  }
  const halves = new Uint16Array(values.length);
  float32ToFloat16(values, halves);
  if (halves.some((bits) => (bits & 0x7fff) === 0x7c00)) {
    throw new AppError(
      'model_not_supported',
      `A weight of "${spec.name}" exceeds float16's range; use another form.`,
      {
        param: spec.name,
      },
    );
  }
  writer.write(spec.name, halves, first * 2);
}

/** A vector may be stored with axes of extent 1 around it, as a classifier's score is. */
function readVector(checkpoint: Checkpoint, parts: readonly TensorPart[]): Float32Array {
  const values = new Float32Array(parts.reduce((sum, { size }) => sum + size, 0));
  let done = 0;
  for (const { tensor: name, size } of parts) {
    const shape = checkpoint.tensors.get(name)?.shape ?? [];
    const tensor = checkpoint.require(name, elementCount(shape) === size ? shape : [size]);
    checkpoint.readFloats(tensor, values.subarray(done, done + size));
    done += size;
  }
  return values;
}

function* readRows(checkpoint: Checkpoint, matrix: MatrixSource): Generator<RowPiece> {
  const pieces = matrix.transposed ? [readTransposed(checkpoint, matrix)] : readStacked(checkpoint, matrix);
  for (const piece of pieces) {
    scaleLeading(piece.values, matrix.inputs, piece.firstRow, matrix.scaled);
    yield piece;
  }
}

/** @param firstRow Where these rows of `width` values stand among all outputs. */
function scaleLeading(
  values: Float32Array,
  width: number,
  firstRow: number,
  scaled: LeadingFactor | undefined,
): void {
  if (scaled === undefined) return;
  const end = Math.min(values.length, (scaled.size - firstRow) * width);
  for (let i = 0; i < end; i++) values[i] = (values[i] as number) * scaled.factor;
}

function* readStacked(checkpoint: Checkpoint, { parts, inputs }: MatrixSource): Generator<RowPiece> {
  const step = Math.max(1, Math.floor(PIECE_ELEMENTS / inputs));
  let firstRow = 0;
  for (const { tensor: name, size } of parts) {
    const tensor = checkpoint.require(name, [size, inputs]);
    for (let row = 0; row < size; row += step) {
      const values = new Float32Array(Math.min(step, size - row) * inputs);
      checkpoint.readFloats(tensor, values, row * inputs);
      yield { firstRow: firstRow + row, values };
    }
    firstRow += size;
  }
}

/** GPT-2's matrices are [in, out] and come one a product. */
function readTransposed(checkpoint: Checkpoint, { parts, outputs, inputs }: MatrixSource): RowPiece {
  const stored = new Float32Array(inputs * outputs);
  checkpoint.readFloats(checkpoint.require(parts[0]?.tensor ?? '', [inputs, outputs]), stored);
  const values = new Float32Array(stored.length);
  for (let input = 0; input < inputs; input++) {
    for (let output = 0; output < outputs; output++) {
      values[output * inputs + input] = stored[input * outputs + output] as number;
    }
  }
  return { firstRow: 0, values };
}
