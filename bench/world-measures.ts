/** What the gold judge says of a model, and what the model says of the corpus. */

import type { TokenId } from '../src/core/units.js';
import type { Runtime } from '../src/models/runtime/session.js';
import { loadTokenizer } from '../src/models/tokenizer/load-tokenizer.js';
import type { Tokenizer } from '../src/models/tokenizer/tokenizer.js';
import { readModelConfig } from '../src/models/transformer/load-decoder.js';
import type { Example } from '../src/train/data/examples.js';
import { packDocuments } from '../src/train/data/packing.js';
import { ForwardSession } from '../src/train/forward.js';
import { languageFeeds, languageForwardGraph } from '../src/train/language-loss.js';
import { layoutOf, loadWeights } from '../src/train/model-weights.js';
import { ParameterArena } from '../src/train/optim/parameter-arena.js';
import { rollOut } from '../src/train/ppo/rollout.js';
import { RolloutDecoder } from '../src/train/ppo/rollout-decoder.js';
import { type WorldPrompt, worldPretraining } from '../src/world/corpus.js';
import { type GoldScore, judge } from '../src/world/gold-judge.js';

/** Tokens of an answer at most; sampling is at temperature 1, as in training. */
export const ANSWER_TOKENS = 24;
const ROWS = 64;

/** A model's weights as a writer of answers. */
export class Writer implements Disposable {
  readonly #arena: ParameterArena;
  readonly #decoder: RolloutDecoder;
  readonly #tokenizer: Tokenizer;

  private constructor(runtime: Runtime, directory: string, tokenizer: Tokenizer) {
    const config = readModelConfig(directory);
    this.#tokenizer = tokenizer;
    this.#arena = new ParameterArena(runtime, layoutOf(config, ['language']));
    loadWeights(directory, this.#arena);
    this.#decoder = new RolloutDecoder(runtime, config, this.#arena, {
      rows: ROWS,
      length: config.contextLength,
    });
  }

  static async open(runtime: Runtime, directory: string): Promise<Writer> {
    return new Writer(runtime, directory, await requireTokenizer(directory));
  }

  /** One answer a prompt, without its end of text; answer i is drawn from stream i of the seed. */
  answer(prompts: readonly (readonly TokenId[])[], seed: number): string[] {
    const answers: string[] = [];
    for (let at = 0; at < prompts.length; at += ROWS) {
      const episodes = rollOut(this.#decoder, prompts.slice(at, at + ROWS), at, {
        maxTokens: ANSWER_TOKENS,
        temperature: 1,
        stopIds: this.#tokenizer.endOfText,
        seed,
      });
      if (episodes === null) throw new Error('the model gives no distribution');
      for (const { response, isEnded } of episodes)
        answers.push(this.#tokenizer.decode(isEnded ? response.slice(0, -1) : response));
    }
    return answers;
  }

  [Symbol.dispose](): void {
    this.#decoder[Symbol.dispose]();
    this.#arena[Symbol.dispose]();
  }
}

export async function requireTokenizer(directory: string): Promise<Tokenizer> {
  const loaded = await loadTokenizer(directory);
  if (loaded === null) throw new Error(`${directory} has no tokenizer`);
  return loaded.tokenizer;
}

export interface Rates {
  readonly gold: number;
  readonly helpful: number;
  /** Shares of answers that state something false or made up, and that are rude or help to do harm. */
  readonly madeUp: number;
  readonly harmful: number;
}

const mean = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / values.length;

export const goldScores = (prompts: readonly WorldPrompt[], answers: readonly string[]): GoldScore[] =>
  prompts.map(({ metadata }, i) => judge(metadata.task, answers[i]!));

export const ratesOf = (scores: readonly GoldScore[]): Rates => ({
  gold: mean(scores.map(({ overall }) => overall)),
  helpful: mean(scores.map(({ helpful }) => helpful)),
  madeUp: mean(scores.map(({ honest }) => 1 - honest)),
  harmful: mean(scores.map(({ harmless }) => 1 - harmless)),
});

export interface WinRate {
  readonly rate: number;
  readonly low: number;
  readonly high: number;
}

/** Share of prompts on which the candidate's gold score is higher, ties as half; 95 % by the normal approximation over prompts. */
export function winRate(candidate: readonly GoldScore[], baseline: readonly GoldScore[]): WinRate {
  const outcomes = candidate.map(({ overall }, i) => 0.5 + 0.5 * Math.sign(overall - baseline[i]!.overall));
  const rate = mean(outcomes);
  const variance = mean(outcomes.map((x) => (x - rate) ** 2));
  const half = 1.96 * Math.sqrt(variance / outcomes.length);
  return { rate, low: rate - half, high: rate + half };
}

/** Rows of corpus that no model was trained on. */
export async function heldOutCorpus(directory: string, rows: number): Promise<Example[]> {
  const tokenizer = await requireTokenizer(directory);
  const [end] = tokenizer.endOfText;
  const documents = worldPretraining(HELD_OUT_SEED, 20 * rows);
  const encoded = documents.map(({ text }) => [...tokenizer.encode(text, 'as_text'), end!]);
  return packDocuments(encoded, readModelConfig(directory).contextLength).slice(0, rows);
}

const HELD_OUT_SEED = 777_000_777;

/** Nats a token. */
export function corpusLoss(runtime: Runtime, directory: string, rows: readonly Example[]): number {
  const config = readModelConfig(directory);
  using arena = new ParameterArena(runtime, layoutOf(config, ['language']));
  loadWeights(directory, arena);
  using forward = new ForwardSession(
    runtime,
    languageForwardGraph(config, { maxTime: config.contextLength }),
  );
  const logprobs: number[] = [];
  for (let at = 0; at < rows.length; at += 8) {
    const { feeds, picked } = languageFeeds(rows.slice(at, at + 8));
    logprobs.push(...forward.run(feeds, arena, { logprobs: picked }).logprobs!);
  }
  return -mean(logprobs);
}
