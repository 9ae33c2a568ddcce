import { AppError } from '../../core/errors.js';
import type { TokenId } from '../../core/units.js';
import type { RewardModel, RewardScore } from '../../models/reward-model.js';
import { assertMayFit } from '../context-limit.js';
import type { Handlers, Schemas } from '../contract.js';
import { messagesOf, promptOf } from '../conversation.js';
import { disconnection } from '../limits.js';
import type { ServerParts } from '../parts.js';

type Input = Schemas['CreateRewardsRequest']['input'][number];

export function rewardRoutes({ pool }: ServerParts): Pick<Handlers, 'createRewards' | 'getReward'> {
  return {
    async createRewards({ body, reply }) {
      const model = await pool.reward(body.model);
      const sequences = body.input.map((input, index) => sequencesOf(input, model, `input.${index}`));
      const scores = await model.score(sequences.flat(), {
        tokenValues: body.token_values,
        signal: disconnection(reply),
      });
      return rewardsOf(
        body,
        sequences.map(({ length }) => length),
        scores,
      );
    },
    async getReward({ body, query, reply }) {
      const model = await pool.reward(query?.model ?? (await onlyRewardModel()));
      const texts = typeof body.query === 'string' ? [body.query] : body.query;
      // That client sends decoded sequences with their control tokens, so the caller owns the prompt.
      const sequences = texts.map((text, index) => {
        const field = `query.${index}`;
        assertMayFit(text, model, field);
        return whole(model.tokenizer.encode(text, 'parse'), field);
      });
      const scores = await model.score(sequences, { tokenValues: false, signal: disconnection(reply) });
      const rewards = scores.map(({ score }) => score);
      return { rewards, scores: rewards, extra_logs: {} };
    },
  };

  async function onlyRewardModel(): Promise<string> {
    const rewards = (await pool.list()).filter(({ kind }) => kind === 'reward');
    if (rewards.length === 1) return rewards[0]!.id;
    const names = rewards.map(({ id }) => id).join(', ');
    throw new AppError(
      'missing_required_parameter',
      `Say which reward model by the query parameter 'model'; there are ${rewards.length}${names && `: ${names}`}`,
      { param: 'model' },
    );
  }
}

function rewardsOf(
  { model, token_values }: Schemas['CreateRewardsRequest'],
  completionsOf: readonly number[],
  scores: readonly RewardScore[],
): Schemas['Rewards'] {
  const remaining = scores.values();
  const data = completionsOf.map((completions, index) => {
    const own = Array.from({ length: completions }, () => remaining.next().value!);
    const values = own.map(({ score }) => score);
    return {
      object: 'reward' as const,
      index,
      scores: values,
      ranks: ranksOf(values),
      ...(token_values && { token_values: own.map(({ tokenValues }) => tokenValues ?? []) }),
    };
  });
  const tokens = scores.reduce((sum, score) => sum + score.tokens, 0);
  return { object: 'list', model, data, usage: { prompt_tokens: tokens, total_tokens: tokens } };
}

/** Prompt and each completion as one sequence: as a rollout has them, the completion's own tokens follow the prompt's. */
function sequencesOf(input: Input, model: RewardModel, param: string): TokenId[][] {
  const { prompt, messages } = input;
  if ((prompt === undefined) === (messages === undefined))
    throw new AppError('invalid_value', `'${param}' needs either prompt or messages`, { param });
  const { tokenizer } = model;
  if (messages !== undefined)
    return input.completions.map((content) =>
      promptOf(
        model,
        [...messagesOf(messages), { role: 'assistant', content }],
        { addGenerationPrompt: false },
        param,
      ),
    );
  assertMayFit(prompt!, model, `${param}.prompt`);
  const head = tokenizer.withSpecialTokens(tokenizer.encode(prompt!, 'as_text'));
  return input.completions.map((completion, index) => {
    const field = `${param}.completions.${index}`;
    assertMayFit(completion, model, field);
    return whole([...head, ...tokenizer.encode(completion, 'as_text')], field);
  });
}

function whole(sequence: TokenId[], param: string): TokenId[] {
  if (sequence.length > 0) return sequence;
  throw new AppError('invalid_value', `'${param}' has no token to score`, { param });
}

/** 1 is best; equal scores share the best rank among them (1, 2, 2, 4). */
export const ranksOf = (scores: readonly number[]): number[] =>
  scores.map((score) => 1 + scores.filter((other) => other > score).length);
