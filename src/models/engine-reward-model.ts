import { AppError } from '../core/errors.js';
import type { TokenId } from '../core/units.js';
import type { RemoteScorer } from './engine/remote-scorer.js';
import type { RewardModel, RewardScore } from './reward-model.js';
import type { ChatTemplate, Tokenizer } from './tokenizer/tokenizer.js';

export interface RewardModelParts {
  readonly id: string;
  readonly scorer: RemoteScorer;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
}

/** Head outputs of a scorer as centred scores. */
export class EngineRewardModel implements RewardModel {
  readonly id: string;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
  readonly #scorer: RemoteScorer;

  /** Takes the scorer over: disposing of the model ends it. */
  constructor({ id, scorer, tokenizer, chatTemplate }: RewardModelParts) {
    this.id = id;
    this.#scorer = scorer;
    this.tokenizer = tokenizer;
    this.chatTemplate = chatTemplate;
  }

  get contextLength(): number {
    return this.#scorer.ready.contextLength;
  }

  get failure(): AppError | null {
    return this.#scorer.failure;
  }

  async score(
    sequences: readonly (readonly TokenId[])[],
    { tokenValues, signal }: { readonly tokenValues: boolean; readonly signal: AbortSignal },
  ): Promise<RewardScore[]> {
    const { mean, vocabularySize } = this.#scorer.ready;
    for (const sequence of sequences) assertInVocabulary(sequence, vocabularySize);
    const outputs = await this.#scorer.score(sequences, tokenValues ? 'all' : 'last', signal);
    return outputs.map((values, index) => {
      const centred = values.map((value) => value - mean);
      return {
        score: centred[centred.length - 1] as number,
        tokenValues: tokenValues ? centred : null,
        tokens: (sequences[index] as readonly TokenId[]).length,
      };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scorer[Symbol.asyncDispose]();
  }
}

function assertInVocabulary(sequence: readonly TokenId[], vocabularySize: number): void {
  const foreign = sequence.find((id) => !Number.isSafeInteger(id) || id < 0 || id >= vocabularySize);
  if (foreign === undefined) return;
  throw new AppError(
    'invalid_value',
    `Token ${foreign} is not in this model's vocabulary of ${vocabularySize}.`,
    { param: 'input' },
  );
}
