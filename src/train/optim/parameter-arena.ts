import type { Value } from '../../models/graph/ir.js';
import type { DeviceTensor, Runtime } from '../../models/runtime/session.js';

/** A trainable tensor's place in the flat buffers. */
export interface ArenaEntry {
  readonly name: string;
  readonly shape: readonly number[];
  /** Elements before it. */
  readonly offset: number;
  readonly length: number;
}

/** Elements between the starts of two tensors are a multiple of this: 64 bytes, a cache line and the widest vector load. */
const ALIGNMENT = 16;

/** Elements that travel between the host and the device at a time. */
const PIECE = 1 << 20;

/**
 * Where each parameter lies in one flat float32 buffer. Parameters, gradients, both moments and the EMA have the same layout, so that an
 * optimizer runs over plain ranges of elements and a checkpoint is a handful of buffers. Those that decay come first.
 */
export class ArenaLayout {
  readonly entries: readonly ArenaEntry[];
  /** Elements of parameters that decay: the range [0, decayed). */
  readonly decayed: number;
  readonly length: number;
  readonly #byName: ReadonlyMap<string, ArenaEntry>;

  /** @param parameters of a graph; extents known */
  constructor(parameters: readonly Value[], decays: (parameter: Value) => boolean) {
    const ordered = [...parameters.filter(decays), ...parameters.filter((parameter) => !decays(parameter))];
    const entries: ArenaEntry[] = [];
    let offset = 0;
    let decayed = 0;
    for (const parameter of ordered) {
      const shape = parameter.extents.map((extent) => {
        if (extent === null) throw new Error(`parameter ${parameter.name} has a dynamic extent`);
        return extent;
      });
      const length = shape.reduce((n, extent) => n * extent, 1);
      entries.push({ name: parameter.name, shape, offset, length });
      offset += Math.ceil(length / ALIGNMENT) * ALIGNMENT;
      if (decays(parameter)) decayed = offset;
    }
    this.entries = entries;
    this.decayed = decayed;
    this.length = offset;
    this.#byName = new Map(entries.map((entry) => [entry.name, entry]));
  }

  entry(name: string): ArenaEntry {
    const entry = this.#byName.get(name);
    if (entry === undefined) throw new Error(`no parameter ${name} in this arena`);
    return entry;
  }

  /** Numbers trained, without the padding between tensors. */
  get parameters(): number {
    return this.entries.reduce((n, entry) => n + entry.length, 0);
  }
}

/** One flat buffer on the device with a view a parameter. It owns the memory. */
export class ParameterArena implements Disposable {
  readonly layout: ArenaLayout;
  readonly flat: DeviceTensor<'float32'>;

  constructor(runtime: Runtime, layout: ArenaLayout) {
    this.layout = layout;
    this.flat = runtime.allocate('float32', [layout.length]);
  }

  /** The tensor of a parameter, in its own shape. */
  view(name: string): DeviceTensor<'float32'> {
    const { shape, offset } = this.layout.entry(name);
    return this.flat.view(shape, offset);
  }

  /** Elements `first` .. `first + into.length - 1` of the flat buffer, copied to the host. */
  read(into: Float32Array, first = 0): void {
    this.flat.view([into.length], first).read(into);
  }

  write(values: Float32Array, first = 0): void {
    this.flat.view([values.length], first).write(values);
  }

  copyFrom(other: ParameterArena): void {
    this.flat.copyFrom(other.flat);
  }

  fillZero(): void {
    this.flat.fillZero();
  }

  /** The flat buffer in ranges that a host can hold beside it. */
  *pieces(): Generator<{ readonly first: number; readonly length: number }> {
    const { length } = this.layout;
    for (let first = 0; first < length; first += PIECE)
      yield { first, length: Math.min(PIECE, length - first) };
  }

  [Symbol.dispose](): void {
    this.flat[Symbol.dispose]();
  }
}

/** The usual choice: matrices decay, norms and biases do not. */
export const decaysIfMatrix = (parameter: Value): boolean => parameter.axes.length >= 2;
