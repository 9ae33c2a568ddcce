/**
 * Runs a decoder over whole sequences that the caller holds: for verification, scoring and perplexity. The engine has its own loop, with
 * slots and a batch that changes from step to step.
 */
import type { Binding, DeviceTensor, ElementType, HostArrayOf, Runtime } from '../runtime/session.js';
import {
  decoderInputs,
  kvShape,
  pastKeyName,
  pastValueName,
  presentKeyName,
  presentValueName,
} from './decoder.js';
import type { LoadedDecoder } from './load-decoder.js';

/** A place in a batch whose output is wanted: `position` counts from the run's first token. */
export interface Place {
  readonly row: number;
  readonly position: number;
}

export class DecoderPass implements Disposable {
  readonly #runtime: Runtime;
  readonly #decoder: LoadedDecoder;
  readonly #binding: Binding;
  readonly #cache: DeviceTensor[] = [];
  readonly rows: number;

  /** Holds a cache of `rows` slots of `length` positions until it is disposed of. */
  constructor(runtime: Runtime, decoder: LoadedDecoder, rows: number, length: number) {
    this.#runtime = runtime;
    this.#decoder = decoder;
    this.rows = rows;
    this.#binding = decoder.session.createBinding();
    const { kv } = decoder.graph;
    const bind = (past: string, present: string): void => {
      const tensor = runtime.allocate(kv.type, kvShape(kv, rows, length));
      this.#cache.push(tensor);
      this.#binding.bindInput(past, tensor);
      this.#binding.bindOutput(present, tensor);
    };
    for (let layer = 0; layer < kv.layers; layer++) {
      bind(pastKeyName(layer), presentKeyName(layer));
      bind(pastValueName(layer), presentValueName(layer));
    }
  }

  /**
   * @param tokens One list a row; shorter ones are padded on the right, which only a first run (past 0) may need.
   * @param past   Positions in the cache already, the same in every row; over 0 it takes one row, or one token a row.
   * @returns float32 [places, vocabulary], or [places] of a reward model. A copy.
   */
  run(tokens: readonly (readonly number[])[], past: number, places: readonly Place[]): Float32Array {
    const time = Math.max(...tokens.map(({ length }) => length));
    const ids = tokens.flatMap((row) => [...row, ...new Array<number>(time - row.length).fill(0)]);
    const { head } = this.#decoder.graph;
    const width = head.kind === 'language' ? [head.vocabulary] : [];
    using _input = this.#bound(
      decoderInputs.tokens,
      'int64',
      [tokens.length, time],
      BigInt64Array.from(ids, BigInt),
    );
    const last = Int32Array.from(tokens, ({ length }) => past + length - 1);
    using _lastPosition = this.#bound(decoderInputs.lastPosition, 'int32', [tokens.length], last);
    using _total = this.#bound(decoderInputs.totalLength, 'int32', [], Int32Array.of(past + time));
    const flat = BigInt64Array.from(places, ({ row, position }) => BigInt(row * time + position));
    using _picked = this.#bound(decoderInputs.picked, 'int64', [places.length], flat);
    using output = this.#runtime.allocateHost('float32', [places.length, ...width]);
    this.#binding.bindOutput(head.output, output);
    this.#binding.run();
    const values = new Float32Array(output.byteLength / 4);
    output.read(values);
    return values;
  }

  #bound<E extends ElementType>(
    name: string,
    type: E,
    shape: readonly number[],
    data: HostArrayOf[E],
  ): DeviceTensor<E> {
    const tensor = this.#runtime.allocateHost(type, shape);
    tensor.write(data);
    this.#binding.bindInput(name, tensor);
    return tensor;
  }

  [Symbol.dispose](): void {
    this.#binding[Symbol.dispose]();
    for (const tensor of this.#cache) tensor[Symbol.dispose]();
  }
}

/** Index of the largest value; the lowest on a tie. */
export function argMax(values: Float32Array): number {
  let best = 0;
  for (let index = 1; index < values.length; index++) {
    if ((values[index] as number) > (values[best] as number)) best = index;
  }
  return best;
}

/** Natural log of the sum of exponentials, in float64. */
export function logSumExp(values: Float32Array): number {
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0));
}

/** Token ids that greedy decoding gives after a prompt, `count` of them, a token a run. Needs a pass of one row. */
export function decodeGreedily(pass: DecoderPass, prompt: readonly number[], count: number): number[] {
  const ids: number[] = [];
  let logits = pass.run([prompt], 0, [{ row: 0, position: prompt.length - 1 }]);
  for (;;) {
    const next = argMax(logits);
    ids.push(next);
    if (ids.length === count) return ids;
    logits = pass.run([[next]], prompt.length + ids.length - 1, [{ row: 0, position: 0 }]);
  }
}
