/**
 * Reading Hugging Face checkpoints: one safetensors file, or shards behind an index. Tensors are read by position, in pieces, straight
 * into the caller's buffer, so that a checkpoint never needs memory beyond what the caller holds.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../../core/errors.js';
import { allFinite, bfloat16ToFloat32, float16ToFloat32 } from './float-formats.js';
import { invalid, parseJsonObject, SafetensorsFile, type StoredTensor } from './safetensors.js';

const SINGLE_FILE = 'model.safetensors';
const INDEX_FILE = 'model.safetensors.index.json';

/** Shard file of each tensor; a shard may not lead out of the directory. */
function readIndex(path: string): Map<string, string> {
  const { weight_map: weightMap } = parseJsonObject(path, readFileSync(path, 'utf8'));
  if (typeof weightMap !== 'object' || weightMap === null) throw invalid(path, 'has no weight_map');
  const shards = new Map<string, string>();
  for (const [name, shard] of Object.entries(weightMap)) {
    if (typeof shard !== 'string' || !/^[\w.-]+\.safetensors$/.test(shard)) {
      throw invalid(path, `sends "${name}" to ${JSON.stringify(shard)}, which is no file name`);
    }
    shards.set(name, shard);
  }
  return shards;
}

/** Floats converted at a time: large enough for the disk, small enough for the cache. */
const PIECE_ELEMENTS = 1 << 18;

/** All tensors of a checkpoint directory, whatever files they lie in. */
export class Checkpoint implements Disposable {
  readonly directory: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly #files: ReadonlyMap<string, SafetensorsFile>;
  readonly #piece = new Uint8Array(PIECE_ELEMENTS * 2);

  private constructor(directory: string, files: readonly SafetensorsFile[]) {
    this.directory = directory;
    this.#files = new Map(files.map((file) => [file.file, file]));
    this.tensors = new Map(files.flatMap((file) => [...file.tensors]));
  }

  /** Throws `checkpoint_invalid` with the file and the reason. */
  static open(directory: string): Checkpoint {
    const single = join(directory, SINGLE_FILE);
    if (existsSync(single)) return new Checkpoint(directory, [new SafetensorsFile(single)]);
    const index = join(directory, INDEX_FILE);
    if (!existsSync(index)) {
      throw new AppError(
        'checkpoint_invalid',
        `${directory} has neither ${SINGLE_FILE} nor ${INDEX_FILE}. Other formats (pytorch_model.bin, GGUF) must be converted to safetensors first.`,
        { param: directory },
      );
    }
    return Checkpoint.#openShards(directory, index);
  }

  static #openShards(directory: string, index: string): Checkpoint {
    const shardOf = readIndex(index);
    const files: SafetensorsFile[] = [];
    try {
      for (const shard of [...new Set(shardOf.values())].sort()) {
        const path = join(directory, shard);
        if (!existsSync(path)) throw invalid(index, `names ${shard}, which is not there`);
        files.push(new SafetensorsFile(path));
      }
      const checkpoint = new Checkpoint(directory, files);
      for (const [name, shard] of shardOf) {
        if (checkpoint.tensors.get(name)?.file !== join(directory, shard)) {
          throw invalid(index, `places "${name}" in ${shard}, which does not hold it (or not alone)`);
        }
      }
      return checkpoint;
    } catch (error) {
      for (const file of files) file[Symbol.dispose]();
      throw error;
    }
  }

  /** Throws `checkpoint_invalid` where the tensor is absent or has another shape. */
  require(name: string, shape: readonly number[]): StoredTensor {
    const tensor = this.tensors.get(name);
    if (tensor === undefined) throw invalid(this.directory, `lacks the tensor "${name}"`);
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, axis) => size !== shape[axis])) {
      throw invalid(
        this.directory,
        `has "${name}" with shape [${tensor.shape.join(', ')}] where config.json asks for [${shape.join(', ')}]`,
      );
    }
    return tensor;
  }

  /**
   * Elements `first` .. `first + into.length - 1` of a floating-point tensor as float32, in row-major order.
   * Throws `checkpoint_invalid` where it holds another type, a NaN or an infinity.
   */
  readFloats(tensor: StoredTensor, into: Float32Array, first = 0): void {
    if (tensor.type === 'F32')
      this.#read(tensor, new Uint8Array(into.buffer, into.byteOffset, into.byteLength), first * 4);
    else if (tensor.type === 'BF16') this.#readHalves(tensor, into, first, bfloat16ToFloat32);
    else if (tensor.type === 'F16') this.#readHalves(tensor, into, first, float16ToFloat32);
    else
      throw invalid(
        tensor.file,
        `stores "${tensor.name}" as ${tensor.type}; weights must be F32, F16 or BF16`,
      );
    if (!allFinite(into)) throw invalid(tensor.file, `has a NaN or an infinity in "${tensor.name}"`);
  }

  #readHalves(
    tensor: StoredTensor,
    into: Float32Array,
    first: number,
    convert: (from: Uint16Array, into: Float32Array) => void,
  ): void {
    for (let done = 0; done < into.length; done += PIECE_ELEMENTS) {
      const count = Math.min(PIECE_ELEMENTS, into.length - done);
      this.#read(tensor, this.#piece.subarray(0, count * 2), (first + done) * 2);
      convert(new Uint16Array(this.#piece.buffer, 0, count), into.subarray(done, done + count));
    }
  }

  #read(tensor: StoredTensor, into: Uint8Array, byteOffset: number): void {
    const file = this.#files.get(tensor.file);
    if (file === undefined) throw new Error(`"${tensor.name}" is not a tensor of ${this.directory}`);
    file.readBytes(tensor, into, byteOffset);
  }

  [Symbol.dispose](): void {
    for (const file of this.#files.values()) file[Symbol.dispose]();
  }
}
