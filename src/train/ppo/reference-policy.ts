import type { Runtime } from '../../models/runtime/session.js';
import type { ModelConfig } from '../../models/transformer/model-config.js';
import { ForwardSession } from '../forward.js';
import { layoutOf, loadWeights } from '../model-weights.js';
import { ParameterArena } from '../optim/parameter-arena.js';
import type { PassContext } from './policy-network.js';
import { logprobGraph } from './ppo-graphs.js';
import type { Episode } from './rollout.js';
import { byRow, inLengthGroups, pickedTokens, responseStates, sequenceBatch } from './sequence-batch.js';

/** The frozen policy that KL is measured from. */
export class ReferencePolicy implements Disposable {
  readonly #arena: ParameterArena;
  readonly #session: ForwardSession;
  readonly #context: PassContext;

  /** @param directory of a checkpoint of this configuration */
  constructor(runtime: Runtime, directory: string, config: ModelConfig, context: PassContext) {
    this.#context = context;
    this.#arena = new ParameterArena(runtime, layoutOf(config, ['language']));
    loadWeights(directory, this.#arena);
    this.#session = new ForwardSession(runtime, logprobGraph(config, context));
  }

  /** Log-probabilities of the responses' tokens at the sampling temperature, nats. */
  logprobs(episodes: readonly Episode[]): Float32Array[] {
    const { maxTime, microBatchRows } = this.#context;
    const sequences = episodes.map((episode) => ({ ...responseStates(episode), episode }));
    return inLengthGroups(sequences, microBatchRows, (rows) => {
      const { feeds, picked } = sequenceBatch(rows, maxTime);
      const targets = pickedTokens(rows.map(({ episode }) => episode.response));
      const readings = this.#session.run({ ...feeds, targets }, this.#arena, { logprobs: picked });
      return byRow(
        readings.logprobs!,
        rows.map(({ count }) => count),
      );
    });
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
    this.#arena[Symbol.dispose]();
  }
}
