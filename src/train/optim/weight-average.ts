import { GraphBuilder } from '../../models/graph/builder.js';
import * as op from '../../models/graph/ops.js';
import type { Runtime } from '../../models/runtime/session.js';
import { ElementwiseSession } from './elementwise-session.js';
import { ParameterArena } from './parameter-arena.js';

/** Exponential moving average of the weights: average <- decay average + (1 - decay) weights, from the weights at the start. */
export class WeightAverage implements Disposable {
  readonly arena: ParameterArena;
  readonly #session: ElementwiseSession;

  /** @param decay in [0, 1); InstructGPT's is 0.992 a step (Ouyang et al. 2022, appendix C.4) */
  constructor(runtime: Runtime, weights: ParameterArena, decay: number) {
    this.arena = new ParameterArena(runtime, weights.layout);
    this.arena.copyFrom(weights);
    const g = new GraphBuilder('weight_average', { chunk: 'dynamic' });
    const [average, fresh] = [
      g.input('average', 'float32', ['chunk']),
      g.input('weights', 'float32', ['chunk']),
    ];
    g.output('average_next', op.add(op.mul(average, decay), op.mul(fresh, 1 - decay)));
    this.#session = new ElementwiseSession(runtime, g, []);
  }

  update(weights: ParameterArena): void {
    const { flat, layout } = this.arena;
    const inputs = { average: flat, weights: weights.flat };
    this.#session.run('all', { from: 0, to: layout.length }, inputs, { average_next: flat }, {});
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
    this.arena[Symbol.dispose]();
  }
}
