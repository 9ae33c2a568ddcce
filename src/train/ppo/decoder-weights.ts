import type { Binding, DeviceTensor, Runtime } from '../../models/runtime/session.js';
import type { MatrixSource, TensorPart, WeightSpec } from '../../models/transformer/decoder.js';
import type { ParameterArena } from '../optim/parameter-arena.js';

/** A weight that the serving graph wants in another form than the trainer keeps it, and how to make it. */
interface Copy {
  readonly tensor: DeviceTensor<'float32'>;
  readonly fill: (into: Float32Array) => void;
}

/**
 * The serving graph's weights out of a trainer's arena. What the graph stacks (query, key and value; gate and up) lies side by side in
 * the arena, so that nearly every weight is a view of the trainer's own memory and a step of the optimizer is seen by the next run.
 * What does not lie so (gpt2's transposed matrices, parts with padding between them) is copied by `refresh`.
 */
export class DecoderWeights implements Disposable {
  readonly #runtime: Runtime;
  readonly #arena: ParameterArena;
  readonly #tensors = new Map<string, DeviceTensor<'float32'>>();
  readonly #copies: Copy[] = [];

  /** @param specs of a float32 graph, without what is computed and not learned */
  constructor(runtime: Runtime, arena: ParameterArena, specs: readonly WeightSpec[]) {
    this.#runtime = runtime;
    this.#arena = arena;
    for (const spec of specs) this.#tensors.set(spec.name, this.#tensorOf(spec));
  }

  /** Weights that are copies and not the trainer's memory. */
  get copied(): number {
    return this.#copies.length;
  }

  bind(binding: Binding): void {
    for (const [name, tensor] of this.#tensors) binding.bindInput(name, tensor);
  }

  /** Call after the arena has changed. */
  refresh(): void {
    for (const { tensor, fill } of this.#copies) {
      const values = new Float32Array(tensor.byteLength / 4);
      fill(values);
      tensor.write(values);
    }
  }

  #tensorOf({ name, shape, source }: WeightSpec): DeviceTensor<'float32'> {
    if (source.kind === 'vector') return this.#stacked(shape, source.parts);
    if (source.kind !== 'matrix') throw new Error(`"${name}" is ${source.kind}, which no trainer holds`);
    const { matrix } = source;
    return matrix.transposed ? this.#transposed(shape, matrix) : this.#stacked(shape, matrix.parts);
  }

  #stacked(shape: readonly number[], parts: readonly TensorPart[]): DeviceTensor<'float32'> {
    const entries = parts.map(({ tensor }) => this.#arena.layout.entry(tensor));
    const first = entries[0]!.offset;
    let end = first;
    const isContiguous = entries.every(({ offset, length }) => {
      const follows = offset === end;
      end = offset + length;
      return follows;
    });
    if (isContiguous) return this.#arena.flat.view(shape, first);
    return this.#copy(shape, (into) => {
      let at = 0;
      for (const { offset, length } of entries) {
        this.#arena.read(into.subarray(at, at + length), offset);
        at += length;
      }
    });
  }

  /** Kept [in, out], wanted [out, in]. */
  #transposed(shape: readonly number[], { parts, outputs, inputs }: MatrixSource): DeviceTensor<'float32'> {
    const { offset, length } = this.#arena.layout.entry(parts[0]!.tensor);
    const kept = new Float32Array(length);
    return this.#copy(shape, (into) => {
      this.#arena.read(kept, offset);
      for (let input = 0; input < inputs; input++) {
        for (let output = 0; output < outputs; output++)
          into[output * inputs + input] = kept[input * outputs + output]!;
      }
    });
  }

  #copy(shape: readonly number[], fill: Copy['fill']): DeviceTensor<'float32'> {
    const tensor = this.#runtime.allocate('float32', shape);
    this.#copies.push({ tensor, fill });
    return tensor;
  }

  [Symbol.dispose](): void {
    for (const { tensor } of this.#copies) tensor[Symbol.dispose]();
  }
}
