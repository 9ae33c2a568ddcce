import type { GraphBuilder } from '../models/graph/builder.js';
import type { Axes, Value } from '../models/graph/ir.js';
import { encodeModel } from '../models/graph/onnx.js';
import type { Runtime, Session } from '../models/runtime/session.js';
import { type Feeds, runBatch } from './batch-run.js';
import type { ParameterArena } from './optim/parameter-arena.js';

export interface ForwardGraph {
  readonly builder: GraphBuilder;
  readonly readings: Readonly<Record<string, Value<'float32', Axes>>>;
}

/** A graph run for its readings alone, on the trainer's own weights: validation, reference log-probabilities, scores and values. */
export class ForwardSession implements Disposable {
  readonly #runtime: Runtime;
  readonly #session: Session;
  readonly #parameters: readonly string[];
  readonly #readings: readonly string[];

  constructor(runtime: Runtime, { builder, readings }: ForwardGraph) {
    for (const [name, value] of Object.entries(readings)) builder.output(name, value);
    this.#runtime = runtime;
    this.#parameters = builder.parameters.map(({ name }) => name);
    this.#readings = Object.keys(readings);
    this.#session = runtime.openSession(
      encodeModel(builder.build(), { parameters: () => ({ kind: 'input' }) }),
    );
  }

  /** @param lengths numbers in each reading; 1 where it is not named */
  run(
    feeds: Feeds,
    parameters: ParameterArena,
    lengths: Readonly<Record<string, number>> = {},
  ): Record<string, Float32Array> {
    return runBatch(
      this.#runtime,
      this.#session,
      feeds,
      { names: this.#readings, lengths },
      (binding, own) => {
        for (const name of this.#parameters) binding.bindInput(name, own(parameters.view(name)));
      },
    );
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}
