/** Episodes as buffers of a checkpoint, and back: a half-finished rollout survives a kill. */
import { tokenId } from '../../core/units.js';
import type { SavedState, StateBuffer } from '../train-state.js';
import type { Episode } from './rollout.js';

/** What stands in one row of the index buffer. */
const FIELDS = ['index', 'promptLength', 'responseLength', 'isEnded'] as const;

/** The buffers' names begin with this. */
const names = {
  index: 'rollout/index',
  tokens: 'rollout/tokens',
  logprobs: 'rollout/logprobs',
  entropies: 'rollout/entropies',
  scores: 'rollout/scores',
} as const;

export interface SavedRollout {
  readonly episodes: readonly Episode[];
  /** One an episode where the whole rollout has been scored; null before. */
  readonly scores: readonly number[] | null;
}

export function rolloutBuffers({ episodes, scores }: SavedRollout): Record<string, StateBuffer> {
  if (episodes.length === 0) return {};
  const concatenated = episodes.flatMap(({ logprobs }) => [...logprobs]);
  return {
    [names.index]: Int32Array.from(
      episodes.flatMap(({ index, prompt, response, isEnded }) => [
        index,
        prompt.length,
        response.length,
        isEnded ? 1 : 0,
      ]),
    ),
    [names.tokens]: Int32Array.from(episodes.flatMap(({ prompt, response }) => [...prompt, ...response])),
    [names.logprobs]: Float32Array.from(concatenated),
    [names.entropies]: Float64Array.from(episodes, ({ entropy }) => entropy),
    ...(scores !== null && { [names.scores]: Float64Array.from(scores) }),
  };
}

export function readRollout(state: SavedState): SavedRollout {
  const [index, tokens, logprobs, entropies] = [
    state.buffer(names.index),
    state.buffer(names.tokens),
    state.buffer(names.logprobs),
    state.buffer(names.entropies),
  ];
  if (index === null || tokens === null || logprobs === null || entropies === null)
    return { episodes: [], scores: null };
  const ids = new Cursor(Array.from(tokens, tokenId));
  const drawn = new Cursor(Array.from(logprobs));
  const episodes = Array.from(entropies, (entropy, at): Episode => {
    const [number, promptLength, responseLength, isEnded] = index.slice(
      at * FIELDS.length,
      (at + 1) * FIELDS.length,
    ) as unknown as [number, number, number, number];
    return {
      index: number,
      prompt: ids.take(promptLength),
      response: ids.take(responseLength),
      logprobs: Float32Array.from(drawn.take(responseLength)),
      entropy,
      isEnded: isEnded === 1,
    };
  });
  const scores = state.buffer(names.scores);
  return { episodes, scores: scores && Array.from(scores) };
}

/** Takes a list apart from its start. */
class Cursor<T> {
  readonly #items: readonly T[];
  #at = 0;

  constructor(items: readonly T[]) {
    this.#items = items;
  }

  take(count: number): T[] {
    this.#at += count;
    return this.#items.slice(this.#at - count, this.#at);
  }
}
