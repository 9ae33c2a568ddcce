import type { Runtime } from '../../models/runtime/session.js';
import { ForwardSession } from '../forward.js';
import { LossSession } from '../step.js';
import type { Trainable } from '../trainable.js';
import type { Experience } from './actor-critic.js';
import { meanWeights, type PassContext, total } from './policy-network.js';
import { scalarGraph, valueGraph } from './ppo-graphs.js';
import type { Episode } from './rollout.js';
import { byRow, inLengthGroups, pickedFloats, responseStates, sequenceBatch } from './sequence-batch.js';

/** What the value loss reads of some experiences, beside the batch itself. */
export const valueFeeds = (rows: readonly Experience[]) => ({
  old_values: pickedFloats(rows.map(({ values }) => values)),
  returns: pickedFloats(rows.map(({ returns }) => returns)),
});

/** Values of states, by the value head of a model. */
export class ValueReader implements Disposable {
  readonly #model: Trainable;
  readonly #session: ForwardSession;
  readonly #context: Pick<PassContext, 'microBatchRows' | 'maxTime'>;

  constructor(runtime: Runtime, model: Trainable, context: PassContext) {
    this.#model = model;
    this.#context = context;
    this.#session = new ForwardSession(runtime, scalarGraph(model.config, 'value', context));
  }

  read(episodes: readonly Episode[], counts: readonly number[]): Float32Array[] {
    const { maxTime, microBatchRows } = this.#context;
    const sequences = episodes.map((episode, at) => responseStates(episode, counts[at]));
    return inLengthGroups(sequences, microBatchRows, (rows) => {
      const { feeds, picked } = sequenceBatch(rows, maxTime);
      const { scores } = this.#session.run(feeds, this.#model.parameters, { scores: picked });
      return byRow(
        scores!,
        rows.map(({ count }) => count),
      );
    });
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}

/** The gradient of a value function with a network of its own. */
export class ValueNetwork implements Disposable {
  readonly #model: Trainable;
  readonly #loss: LossSession;
  readonly #context: PassContext;

  constructor(
    runtime: Runtime,
    model: Trainable,
    context: PassContext,
    loss: { readonly clip: number; readonly coefficient: number },
  ) {
    this.#model = model;
    this.#context = context;
    this.#loss = new LossSession(runtime, valueGraph(model.config, context, loss), model.layout);
  }

  /** Accumulates the gradient of the minibatch's mean over states; gives that mean, without the coefficient. */
  accumulate(minibatch: readonly Experience[]): number {
    const { maxTime, microBatchRows } = this.#context;
    const states = total(minibatch.map(({ values }) => values.length));
    let loss = 0;
    const sequences = minibatch.map((experience) => ({
      ...responseStates(experience.episode, experience.values.length),
      experience,
    }));
    inLengthGroups(sequences, microBatchRows, (group) => {
      const { feeds, picked } = sequenceBatch(group, maxTime);
      const rows = group.map(({ experience }) => experience);
      const all = { ...feeds, ...valueFeeds(rows), weights: meanWeights(picked, states) };
      loss += this.#model.accumulate(this.#loss, all).value_loss![0]!;
      return rows;
    });
    return loss;
  }

  [Symbol.dispose](): void {
    this.#loss[Symbol.dispose]();
  }
}
