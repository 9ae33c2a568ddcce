/** The best of n answers by a reward model: the baseline that needs no training, and the paper's way to choose an epoch. */
import { AppError } from '../core/errors.js';
import { tokenId } from '../core/units.js';
import type { SamplingOptions } from '../models/engine/engine.js';
import type { RewardModel } from '../models/reward-model.js';
import type { TextModel } from '../models/text-model.js';
import { ExampleEncoder } from './data/examples.js';
import type { Context } from './data/rows.js';
import { klOfBestOf } from './ppo-math.js';

export interface AnswerOptions {
  /** Most tokens of an answer, at least 1. */
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
  readonly signal: AbortSignal;
}

export interface Candidate {
  readonly text: string;
  /** Centred reward. */
  readonly score: number;
  readonly finished: 'stop' | 'length';
}

export interface BestOfN {
  readonly best: Candidate;
  /** As they were drawn. */
  readonly candidates: readonly Candidate[];
  /** Nats between the policy that picks and the one that draws: ln n - (n - 1) / n (Stiennon et al. 2020, appendix G.3). */
  readonly kl: number;
}

/**
 * Draws n answers to a prompt (which is prefilled once) and scores them in one call. Both models read the text by their own tokenizers.
 * Equal scores keep the first. An answer without text scores negative infinity.
 * @throws AppError what both models throw, `example_too_long` where the prompt leaves no room
 */
export async function bestOfN(
  policy: TextModel,
  judge: RewardModel,
  context: Context,
  { n, ...options }: AnswerOptions & { readonly n: number },
): Promise<BestOfN> {
  if (!Number.isInteger(n) || n < 1)
    throw new AppError('invalid_value', `n is ${n}; it must be a whole number from 1.`, { param: 'n' });
  const answers = await drawAnswers(policy, context, n, options);
  const scores = await scoreAnswers(judge, context, answers, options.signal);
  const candidates = answers.map((answer, i) => ({ ...answer, score: scores[i]! }));
  const best = candidates.reduce((leader, candidate) =>
    candidate.score > leader.score ? candidate : leader,
  );
  return { best, candidates, kl: klOfBestOf(n) };
}

type Answer = Omit<Candidate, 'score'>;

async function drawAnswers(
  policy: TextModel,
  context: Context,
  n: number,
  { maxTokens, sampling, signal }: AnswerOptions,
): Promise<Answer[]> {
  const events = await policy.complete(
    {
      prompt: new ExampleEncoder(policy).prompt(context, 1),
      maxTokens,
      sampling,
      n,
      bestOf: n,
      stop: [],
      includeStop: false,
      ignoreEndOfText: false,
      logprobs: null,
      echo: false,
    },
    signal,
  );
  const texts = new Array<string>(n).fill('');
  const reasons = new Array<Answer['finished']>(n).fill('length');
  for await (const event of events) {
    if (event.type === 'delta') texts[event.choice] += event.text;
    else if (event.type === 'finish') reasons[event.choice] = event.reason;
  }
  return texts.map((text, i) => ({ text, finished: reasons[i]! }));
}

/** In order. */
async function scoreAnswers(
  judge: RewardModel,
  context: Context,
  answers: readonly Answer[],
  signal: AbortSignal,
): Promise<number[]> {
  const encoder = new ExampleEncoder(judge);
  const isScored = answers.map(({ text }) => text !== '');
  const sequences = answers
    .filter((_, i) => isScored[i])
    .map(({ text }) => {
      const row = { kind: 'demonstrations', context, completion: text, user: null, labeler: null } as const;
      return Array.from(encoder.scored({ line: 1, row }).tokens, tokenId);
    });
  const scores = sequences.length === 0 ? [] : await judge.score(sequences, { tokenValues: false, signal });
  let next = 0;
  return isScored.map((scored) => (scored ? scores[next++]!.score : -Infinity));
}

/**
 * Mean reward of one answer a prompt: what selects an SFT epoch (Ouyang et al. 2022, section 3.5). Answers without text, which have no
 * score, count as the lowest score among the others.
 */
export async function meanReward(
  policy: TextModel,
  judge: RewardModel,
  prompts: readonly Context[],
  options: AnswerOptions,
): Promise<number> {
  const draws = await Promise.all(
    prompts.map((prompt) => bestOfN(policy, judge, prompt, { ...options, n: 1 })),
  );
  const scores = draws.map(({ best }) => best.score);
  const finite = scores.filter(Number.isFinite);
  if (finite.length === 0) return -Infinity;
  const lowest = Math.min(...finite);
  return scores.reduce((sum, score) => sum + Math.max(score, lowest), 0) / scores.length;
}
