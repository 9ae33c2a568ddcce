import { GraphBuilder } from '../models/graph/builder.js';
import type { Axes, Value } from '../models/graph/ir.js';
import { encodeModel } from '../models/graph/onnx.js';
import * as op from '../models/graph/ops.js';
import type { DeviceTensor, Runtime, Session } from '../models/runtime/session.js';
import { gradient } from './autodiff/gradient.js';
import { ElementwiseSession } from './optim/elementwise-session.js';
import { ArenaLayout, decaysIfMatrix, type ParameterArena } from './optim/parameter-arena.js';

/** What a batch feeds to a loss graph, by input name. */
export type Feeds = Readonly<Record<string, Feed>>;
export type Feed =
  | { readonly type: 'int64'; readonly shape: readonly number[]; readonly data: BigInt64Array }
  | { readonly type: 'float32'; readonly shape: readonly number[]; readonly data: Float32Array };

export interface LossGraph {
  /** With every input and parameter made; outputs are added here. */
  readonly builder: GraphBuilder;
  readonly loss: Value<'float32', readonly []>;
  /** Further values to read, by name. */
  readonly readings: Readonly<Record<string, Value<'float32', Axes>>>;
}

/**
 * Forward and backward of a loss as one graph. Parameters are bound where they lie and gradients are written where the optimizer reads
 * them: nothing but the batch goes in and nothing but the readings comes out.
 */
export class LossSession implements Disposable {
  readonly layout: ArenaLayout;
  readonly #runtime: Runtime;
  readonly #session: Session;
  readonly #parameters: readonly string[];
  readonly #readings: readonly string[];

  /** @param layout of a larger model, where this graph uses some of its parameters; gradients of the others are left as they are */
  constructor(runtime: Runtime, graph: LossGraph, layout?: ArenaLayout) {
    const { builder, loss, readings } = graph;
    const parameters = builder.parameters as readonly Value<'float32', Axes>[];
    this.layout = layout ?? new ArenaLayout(parameters, decaysIfMatrix);
    this.#runtime = runtime;
    builder.output('loss', loss);
    for (const [name, value] of Object.entries(readings)) builder.output(name, value);
    for (const [i, value] of gradient(builder, loss, parameters).entries())
      builder.output(gradientName(parameters[i]!.name), value);
    this.#parameters = parameters.map(({ name }) => name);
    this.#readings = ['loss', ...Object.keys(readings)];
    this.#session = runtime.openSession(
      encodeModel(builder.build(), { parameters: () => ({ kind: 'input' }) }),
    );
  }

  /** Writes the gradient of this batch over what was there. `picked` readings have as many numbers as the batch picks. */
  run(
    feeds: Feeds,
    parameters: ParameterArena,
    gradients: ParameterArena,
    lengths: Readonly<Record<string, number>> = {},
  ): Record<string, Float32Array> {
    const owned: Disposable[] = [];
    const own = <T extends Disposable>(resource: T): T => {
      owned.push(resource);
      return resource;
    };
    try {
      const binding = own(this.#session.createBinding());
      for (const [name, feed] of Object.entries(feeds)) binding.bindInput(name, own(this.#tensorOf(feed)));
      for (const name of this.#parameters) {
        binding.bindInput(name, own(parameters.view(name)));
        binding.bindOutput(gradientName(name), own(gradients.view(name)));
      }
      const tensors = this.#readings.map((name) => {
        const length = lengths[name];
        const tensor = own(this.#runtime.allocateHost('float32', length === undefined ? [] : [length]));
        binding.bindOutput(name, tensor);
        return [name, tensor] as const;
      });
      binding.run();
      return Object.fromEntries(tensors.map(([name, tensor]) => [name, tensor.host!.slice()]));
    } finally {
      for (const resource of owned.toReversed()) resource[Symbol.dispose]();
    }
  }

  #tensorOf(feed: Feed): DeviceTensor {
    const tensor = this.#runtime.allocateHost(feed.type, feed.shape) as DeviceTensor;
    tensor.write(feed.data);
    return tensor;
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
