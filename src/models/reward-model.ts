import type { AppError } from '../core/errors.js';
import type { TokenId } from '../core/units.js';
import type { ChatTemplate, Tokenizer } from './tokenizer/tokenizer.js';

/** Texts in, scores out. */
export interface RewardScore {
  /** Head output at the last token, minus the checkpoint's mean over demonstrations (0 where it has none). */
  readonly score: number;
  /** One value a token of the sequence, where asked; head outputs minus the same mean. */
  readonly tokenValues: readonly number[] | null;
  readonly tokens: number;
}

export interface RewardModel extends AsyncDisposable {
  readonly id: string;
  readonly contextLength: number;
  /** Why nothing can be asked of it any more; null while it works. */
  readonly failure: AppError | null;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
  /** Batched with what other callers ask. Sequences include prompt and completion. Throws `context_length_exceeded`, `queue_full`. */
  score(
    sequences: readonly (readonly TokenId[])[],
    options: { readonly tokenValues: boolean; readonly signal: AbortSignal },
  ): Promise<RewardScore[]>;
}
