import type { AppError } from '../core/errors.js';
import type { Nats, TokenId } from '../core/units.js';
import type { EngineStats, SamplingOptions } from './engine/engine.js';
import type { ChatTemplate, Tokenizer } from './tokenizer/tokenizer.js';

/** Text in, text deltas out: the seam between the server (HTTP shapes) and the engine (token ids). */

export interface CompletionAsk {
  readonly prompt: readonly TokenId[];
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
  /** Choices returned. */
  readonly n: number;
  /** Choices generated; the n of highest mean log-probability are returned. At least n; equal to n when streaming. */
  readonly bestOf: number;
  /** Strings that end a choice; not part of its text unless includeStop. */
  readonly stop: readonly string[];
  readonly includeStop: boolean;
  readonly ignoreEndOfText: boolean;
  readonly logprobs: number | null;
  /** The prompt's text (and its log-probabilities, if logprobs is asked) comes first in each choice. */
  readonly echo: boolean;
}

export interface TextToken {
  readonly id: TokenId;
  readonly text: string;
  readonly bytes: Uint8Array;
  readonly logprob: Nats | null; // null: the first prompt token, or logprobs not asked
  readonly top: readonly {
    readonly id: TokenId;
    readonly text: string;
    readonly bytes: Uint8Array;
    readonly logprob: Nats;
  }[];
  /** Offset of the token's text in the choice's text, in UTF-16 code units. */
  readonly offset: number;
}

export type CompletionEvent =
  | { readonly type: 'start'; readonly promptTokens: number; readonly cachedTokens: number }
  /** Text is whole characters, held back while it may be the start of a stop string; `tokens` are those whose text ends here. */
  | {
      readonly type: 'delta';
      readonly choice: number;
      readonly text: string;
      readonly tokens: readonly TextToken[];
    }
  | {
      readonly type: 'finish';
      readonly choice: number;
      readonly reason: 'stop' | 'length';
      /** The stop string that matched, or null for end of text and length. */
      readonly stopString: string | null;
      /** Up to the token that ended the choice: one that completed a stop string counts, an end of text does not. */
      readonly completionTokens: number;
    };

export interface TextModel extends AsyncDisposable {
  readonly id: string;
  readonly contextLength: number;
  readonly tokenizer: Tokenizer;
  /** Why nothing can be asked of it any more; null while it works. */
  readonly failure: AppError | null;
  /** null where the checkpoint has none. */
  readonly chatTemplate: ChatTemplate | null;
  /**
   * Validates against the model before it returns (AppError `context_length_exceeded`, `invalid_value`, `queue_full`), so that no byte
   * of a stream is sent before; then events of all choices, interleaved. Abort ends it with `request_cancelled` and frees its slots.
   */
  complete(ask: CompletionAsk, signal: AbortSignal): Promise<AsyncIterable<CompletionEvent>>;
  stats(): Promise<EngineStats>;
}
