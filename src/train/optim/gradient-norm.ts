import { GraphBuilder } from '../../models/graph/builder.js';
import { encodeModel } from '../../models/graph/onnx.js';
import * as op from '../../models/graph/ops.js';
import type { Binding, DeviceTensor, Runtime, Session } from '../../models/runtime/session.js';

/** Elements a partial sum: few enough that float32 sums stay exact to about 1e-7, many enough that runs are few. */
const CHUNK = 1 << 18;

/** Global norm of a flat buffer: partial sums of squares on the device, added in float64 here; always in the same order. */
export class GradientNorm implements Disposable {
  readonly #session: Session;
  readonly #sums: DeviceTensor<'float32'>;
  readonly #host: Float32Array;
  readonly #length: number;
  #bound: { readonly buffer: DeviceTensor<'float32'>; readonly bindings: readonly Binding[] } | null = null;

  constructor(runtime: Runtime, length: number) {
    const g = new GraphBuilder('sum_of_squares', { chunk: 'dynamic' });
    const x = g.input('x', 'float32', ['chunk']);
    g.output('sum', op.reduceSumSquare(x, ['chunk']));
    this.#session = runtime.openSession(encodeModel(g.build()));
    this.#length = length;
    const pieces = Math.ceil(length / CHUNK);
    this.#sums = runtime.allocate('float32', [pieces]);
    this.#host = new Float32Array(pieces);
  }

  of(buffer: DeviceTensor<'float32'>): number {
    if (this.#bound?.buffer !== buffer) this.#bind(buffer);
    for (const binding of this.#bound!.bindings) binding.run();
    this.#sums.read(this.#host);
    return Math.sqrt(this.#host.reduce((total, sum) => total + sum, 0));
  }

  #bind(buffer: DeviceTensor<'float32'>): void {
    this.#release();
    const bindings = Array.from(this.#host, (_, piece) => {
      const from = piece * CHUNK;
      const binding = this.#session.createBinding();
      binding.bindInput('x', buffer.view([Math.min(CHUNK, this.#length - from)], from));
      binding.bindOutput('sum', this.#sums.view([], piece));
      return binding;
    });
    this.#bound = { buffer, bindings };
  }

  #release(): void {
    for (const binding of this.#bound?.bindings ?? []) binding[Symbol.dispose]();
    this.#bound = null;
  }

  [Symbol.dispose](): void {
    this.#release();
    this.#sums[Symbol.dispose]();
    this.#session[Symbol.dispose]();
  }
}
