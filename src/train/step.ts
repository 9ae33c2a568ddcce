import { GraphBuilder } from '../models/graph/builder.js';
import type { Axes, Value } from '../models/graph/ir.js';
import { encodeModel } from '../models/graph/onnx.js';
import * as op from '../models/graph/ops.js';
import type { Runtime, Session } from '../models/runtime/session.js';
import { gradientsAsTheyComeDue } from './autodiff/execution-order.js';
import { gradient } from './autodiff/gradient.js';
import type { SegmentOf } from './autodiff/recompute.js';
import { type Feeds, runBatch } from './batch-run.js';
import { ElementwiseSession } from './optim/elementwise-session.js';
import { ArenaLayout, decaysIfMatrix, type ParameterArena } from './optim/parameter-arena.js';

export type { Feed, Feeds } from './batch-run.js';

export interface LossGraph {
  /** With every input and parameter made; outputs are added here. */
  readonly builder: GraphBuilder;
  readonly loss: Value<'float32', readonly []>;
  /** Further values to read, by name. */
  readonly readings: Readonly<Record<string, Value<'float32', Axes>>>;
  /** Where given, what these segments compute is not kept for the backward walk but computed again: less memory, a second forward pass. */
  readonly segmentOf?: SegmentOf;
}

/**
 * Forward and backward of a loss as one graph. Parameters are bound where they lie and gradients are written where the optimizer reads
 * them: nothing but the batch goes in and nothing but the readings comes out.
 */
export class LossSession implements Disposable {
  readonly layout: ArenaLayout;
  /** Names of the parameters that the graph uses: all of the layout's, or some. */
  readonly parameters: readonly string[];
  readonly #runtime: Runtime;
  readonly #session: Session;
  readonly #readings: readonly string[];

  /** @param layout of a larger model, where this graph uses some of its parameters; gradients of the others are left as they are */
  constructor(runtime: Runtime, graph: LossGraph, layout?: ArenaLayout) {
    const { builder, loss, readings, segmentOf } = graph;
    const parameters = builder.parameters as readonly Value<'float32', Axes>[];
    this.layout = layout ?? new ArenaLayout(parameters, decaysIfMatrix);
    this.#runtime = runtime;
    builder.output('loss', loss);
    for (const [name, value] of Object.entries(readings)) builder.output(name, value);
    for (const [i, value] of gradient(builder, loss, parameters, segmentOf).entries())
      builder.output(gradientName(parameters[i]!.name), value);
    this.parameters = parameters.map(({ name }) => name);
    this.#readings = ['loss', ...Object.keys(readings)];
    this.#session = runtime.openSession(
      encodeModel(gradientsAsTheyComeDue(builder.build()), { parameters: () => ({ kind: 'input' }) }),
    );
  }

  /** Writes the gradient of this batch over what was there. `picked` readings have as many numbers as the batch picks. */
  run(
    feeds: Feeds,
    parameters: ParameterArena,
    gradients: ParameterArena,
    lengths: Readonly<Record<string, number>> = {},
  ): Record<string, Float32Array> {
    return runBatch(
      this.#runtime,
      this.#session,
      feeds,
      { names: this.#readings, lengths },
      (binding, own) => {
        for (const name of this.parameters) {
          binding.bindInput(name, own(parameters.view(name)));
          binding.bindOutput(gradientName(name), own(gradients.view(name)));
        }
      },
    );
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}

const gradientName = (parameter: string): string => `gradient of ${parameter}`;

/** total += fresh, for micro-batches whose losses are divided by the whole batch's token count. */
export class GradientSum implements Disposable {
  readonly #session: ElementwiseSession;

  constructor(runtime: Runtime) {
    const g = new GraphBuilder('accumulate', { chunk: 'dynamic' });
    g.output('sum', op.add(g.input('total', 'float32', ['chunk']), g.input('fresh', 'float32', ['chunk'])));
    this.#session = new ElementwiseSession(runtime, g, []);
  }

  add(total: ParameterArena, fresh: ParameterArena): void {
    const range = { from: 0, to: total.layout.length };
    this.#session.run('all', range, { total: total.flat, fresh: fresh.flat }, { sum: total.flat }, {});
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}
