import type { Runtime } from '../models/runtime/session.js';
import type { ModelConfig } from '../models/transformer/model-config.js';
import { AdamW, type AdamWOptions, type UpdateReport } from './optim/adamw.js';
import { type ArenaLayout, ParameterArena } from './optim/parameter-arena.js';
import { WeightAverage } from './optim/weight-average.js';
import { type Feeds, GradientSum, type LossSession } from './step.js';

export interface TrainableOptions {
  readonly optimizer: AdamWOptions;
  /** Decay of the weights' moving average a step, in [0, 1); null keeps none. */
  readonly averageDecay: number | null;
}

/**
 * A model that is being trained: weights, gradients, optimizer and, where asked, the average of its weights. It owns their memory. Fill
 * `parameters` before anything else, then call `startAverage`.
 */
export class Trainable implements Disposable {
  readonly config: ModelConfig;
  readonly layout: ArenaLayout;
  readonly parameters: ParameterArena;
  readonly gradients: ParameterArena;
  readonly optimizer: AdamW;
  readonly #runtime: Runtime;
  readonly #averageDecay: number | null;
  readonly #sum: GradientSum;
  /** Gradient of a second micro-batch, made when there is one. */
  #fresh: ParameterArena | null = null;
  #average: WeightAverage | null = null;
  #accumulated = 0;

  constructor(runtime: Runtime, config: ModelConfig, layout: ArenaLayout, options: TrainableOptions) {
    this.config = config;
    this.layout = layout;
    this.#runtime = runtime;
    this.#averageDecay = options.averageDecay;
    this.parameters = new ParameterArena(runtime, layout);
    this.gradients = new ParameterArena(runtime, layout);
    this.optimizer = new AdamW(runtime, layout, options.optimizer);
    this.#sum = new GradientSum(runtime);
  }

  /** Starts the moving average at the weights as they are now. Does nothing where none is asked for. */
  startAverage(): void {
    if (this.#averageDecay === null) return;
    this.#average?.[Symbol.dispose]();
    this.#average = new WeightAverage(this.#runtime, this.parameters, this.#averageDecay);
  }

  get average(): ParameterArena | null {
    return this.#average?.arena ?? null;
  }

  /** The weights to evaluate and export: their average where there is one. */
  get result(): ParameterArena {
    return this.average ?? this.parameters;
  }

  /**
   * Adds a micro-batch's gradient to what is there since the last step. Losses carry their weights with them (1 / tokens of the whole
   * batch), so micro-batches add up to the batch's gradient however it is split.
   * @returns the session's readings
   */
  accumulate(
    session: LossSession,
    feeds: Feeds,
    lengths: Readonly<Record<string, number>> = {},
  ): Record<string, Float32Array> {
    const isFirst = this.#accumulated++ === 0;
    const into = isFirst ? this.gradients : this.#scratch();
    // A graph that uses some of the parameters leaves the others' gradients as they were.
    if (session.parameters.length < this.layout.entries.length) into.fillZero();
    const readings = session.run(feeds, this.parameters, into, lengths);
    if (!isFirst) this.#sum.add(this.gradients, into);
    return readings;
  }

  /** One optimizer step with the gradient accumulated since the last one. Changes nothing where its norm is not finite. */
  step(learningRate: number): UpdateReport {
    this.#accumulated = 0;
    const report = this.optimizer.step(this.parameters.flat, this.gradients.flat, learningRate);
    if (Number.isFinite(report.gradientNorm)) this.#average?.update(this.parameters);
    return report;
  }

  #scratch(): ParameterArena {
    this.#fresh ??= new ParameterArena(this.#runtime, this.layout);
    return this.#fresh;
  }

  [Symbol.dispose](): void {
    for (const part of [
      this.#fresh,
      this.#average,
      this.#sum,
      this.optimizer,
      this.gradients,
      this.parameters,
    ])
      part?.[Symbol.dispose]();
  }
}
