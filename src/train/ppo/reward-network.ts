import type { TokenId } from '../../core/units.js';
import { Checkpoint } from '../../models/checkpoint/checkpoint.js';
import type { Runtime } from '../../models/runtime/session.js';
import { readModelConfig } from '../../models/transformer/load-decoder.js';
import type { ModelConfig } from '../../models/transformer/model-config.js';
import { ForwardSession } from '../forward.js';
import { type HeadName, layoutOf, loadWeights, type Substitute } from '../model-weights.js';
import { ParameterArena } from '../optim/parameter-arena.js';
import { scalarGraph } from './ppo-graphs.js';
import type { Reward, RewardSample } from './reward-source.js';
import { inLengthGroups, lastState, sequenceBatch } from './sequence-batch.js';

export interface RewardNetworkOptions {
  /** Longest sequence. */
  readonly maxTime: number;
  /** Rows that run at once. */
  readonly batchRows: number;
  /** Tokens that stand behind every response, as in the reward model's training: none behind plain text, the end of a turn in a chat. */
  readonly ending: readonly TokenId[];
}

/** A reward model on the policy's own token ids, in float32 and in this process: batched with nothing between. */
export class RewardNetwork implements Reward, Disposable {
  readonly #arena: ParameterArena;
  readonly #session: ForwardSession;
  readonly #options: RewardNetworkOptions;
  readonly #mean: number;

  /** @param directory of a reward model with the policy's tokenizer */
  constructor(runtime: Runtime, directory: string, options: RewardNetworkOptions) {
    const config = readModelConfig(directory);
    this.#options = options;
    this.#mean = meanOf(config);
    this.#arena = new ParameterArena(runtime, layoutOf(config, ['score']));
    loadRewardWeights(directory, this.#arena, 'score', 0);
    this.#session = new ForwardSession(runtime, scalarGraph(config, 'score', options));
  }

  score(samples: readonly RewardSample[]): Promise<readonly number[]> {
    const { batchRows, maxTime, ending } = this.#options;
    const sequences = samples.map(({ prompt, response }) =>
      lastState({ prompt, response: [...response, ...ending] }),
    );
    const scores = inLengthGroups(sequences, batchRows, (rows) => {
      const { feeds, picked } = sequenceBatch(rows, maxTime);
      const readings = this.#session.run(feeds, this.#arena, { scores: picked });
      return Array.from(readings.scores!, (score) => score - this.#mean);
    });
    return Promise.resolve(scores);
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
    this.#arena[Symbol.dispose]();
  }
}

/** What a reward model's head gives demonstrations on average; its scores are less that. */
export const meanOf = ({ head }: ModelConfig): number => (head.kind === 'reward' ? head.mean : 0);

/**
 * A reward model's trunk, and its head as the named one.
 * @param mean taken off the head's bias, so that a value function speaks of centred scores
 */
export function loadRewardWeights(
  directory: string,
  arena: ParameterArena,
  head: Exclude<HeadName, 'language'>,
  mean: number,
): void {
  const hasBias = storedNames(directory).has('score.bias');
  loadWeights(directory, arena, ({ name, length }): Substitute | null => {
    const part = name === `${head}.weight` ? 'weight' : name === `${head}.bias` ? 'bias' : null;
    if (part === null) return null;
    if (part === 'bias' && !hasBias) return { type: 'fresh', values: new Float32Array(length) };
    return { type: 'stored', name: `score.${part}` };
  });
  const bias = arena.view(`${head}.bias`);
  const value = new Float32Array(1);
  bias.read(value);
  bias.write(value.map((x) => x - mean));
}

function storedNames(directory: string): ReadonlySet<string> {
  using checkpoint = Checkpoint.open(directory);
  return new Set(checkpoint.tensors.keys());
}
