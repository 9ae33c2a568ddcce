import type { GraphBuilder } from '../../models/graph/builder.js';
import { encodeModel } from '../../models/graph/onnx.js';
import type { Binding, DeviceTensor, Runtime, Session } from '../../models/runtime/session.js';

/** A range of elements of flat buffers. */
export interface ElementRange {
  readonly from: number;
  readonly to: number;
}

/** Elements a run: what a core's caches hold of a handful of buffers, so that intermediate values never reach memory. */
const CHUNK = 1 << 18;

/**
 * A small elementwise graph over axis `chunk`, run along flat buffers a piece at a time. Outputs may be bound to the buffers of inputs:
 * each element is read before it is written. Bindings of the pieces are made once and kept.
 */
export class ElementwiseSession implements Disposable {
  readonly #session: Session;
  readonly #scalars = new Map<string, DeviceTensor<'float32'>>();
  readonly #prepared = new Map<string, Binding[]>();
  readonly #views: DeviceTensor[] = [];

  /** @param scalars names of the graph's inputs that are one number each */
  constructor(runtime: Runtime, builder: GraphBuilder, scalars: readonly string[]) {
    this.#session = runtime.openSession(encodeModel(builder.build()));
    for (const name of scalars) this.#scalars.set(name, runtime.allocateHost('float32', []));
  }

  /**
   * @param buffers graph name -> flat buffer, for inputs and outputs alike
   * @param key     names this set of buffers and range, so that its bindings are reused
   */
  run(
    key: string,
    range: ElementRange,
    inputs: Readonly<Record<string, DeviceTensor<'float32'>>>,
    outputs: Readonly<Record<string, DeviceTensor<'float32'>>>,
    scalars: Readonly<Record<string, number>>,
  ): void {
    for (const [name, tensor] of this.#scalars) tensor.write(Float32Array.of(scalars[name]!));
    let bindings = this.#prepared.get(key);
    if (bindings === undefined) {
      bindings = this.#bind(range, inputs, outputs);
      this.#prepared.set(key, bindings);
    }
    for (const binding of bindings) binding.run();
  }

  #bind(
    { from, to }: ElementRange,
    inputs: Readonly<Record<string, DeviceTensor<'float32'>>>,
    outputs: Readonly<Record<string, DeviceTensor<'float32'>>>,
  ): Binding[] {
    const bindings: Binding[] = [];
    for (let at = from; at < to; at += CHUNK) {
      const length = Math.min(CHUNK, to - at);
      const view = (tensor: DeviceTensor<'float32'>) => {
        const piece = tensor.view([length], at);
        this.#views.push(piece);
        return piece;
      };
      const binding = this.#session.createBinding();
      for (const [name, tensor] of this.#scalars) binding.bindInput(name, tensor);
      for (const [name, tensor] of Object.entries(inputs)) binding.bindInput(name, view(tensor));
      for (const [name, tensor] of Object.entries(outputs)) binding.bindOutput(name, view(tensor));
      bindings.push(binding);
    }
    return bindings;
  }

  [Symbol.dispose](): void {
    for (const bindings of this.#prepared.values()) for (const binding of bindings) binding[Symbol.dispose]();
    for (const view of this.#views) view[Symbol.dispose]();
    for (const tensor of this.#scalars.values()) tensor[Symbol.dispose]();
    this.#session[Symbol.dispose]();
  }
}
