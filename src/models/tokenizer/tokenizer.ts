import type { TokenId } from '../../core/units.js';

/** How `<|im_start|>` and its like are read in a text. */
export type SpecialText =
  | 'as_text' // plain characters: what a user wrote
  | 'parse'; // control tokens: what a chat template or the owner of the prompt wrote

export interface Tokenizer {
  /** Token ids run from 0 to vocabularySize - 1; some may have no text. */
  readonly vocabularySize: number;
  readonly beginOfText: TokenId | null;
  /** Ids that end a generation: eos of tokenizer_config.json and generation_config.json. */
  readonly endOfText: ReadonlySet<TokenId>;
  /** Special tokens, by text. */
  readonly specialTokens: ReadonlyMap<string, TokenId>;
  encode(text: string, special: SpecialText): TokenId[];
  /**
   * A lower bound of what `encode` gives, without encoding: fast on any text. It stops at `most + 1`; 0 where this tokenizer may drop text,
   * so that there is no bound.
   */
  fewestTokens(text: string, most: number): number;
  /** Applies the tokenizer's post-processor (BOS, EOS) to a whole prompt, as Hugging Face does with add_special_tokens. */
  withSpecialTokens(ids: readonly TokenId[]): TokenId[];
  /** Bytes of one token; a special token gives its text's bytes. Throws `invalid_value` for an id outside the vocabulary. */
  bytesOf(id: TokenId): Uint8Array;
  isSpecial(id: TokenId): boolean;
  /** Whole UTF-8 text; a broken sequence becomes U+FFFD. Special tokens are left out unless `specials` is `keep`. */
  decode(ids: readonly TokenId[], specials?: 'skip' | 'keep'): string;
  /** For streams: push ids one at a time, get only whole characters. */
  streamDecoder(): StreamDecoder;
}

export interface StreamDecoder {
  /** Text that became whole with this token (may be empty). Special tokens give ''. */
  push(id: TokenId): string;
  /** What is left at the end (an unfinished character becomes U+FFFD). */
  flush(): string;
}

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  readonly name?: string;
}

export interface ChatTemplate {
  /**
   * Messages as the prompt's token ids. The template's own control tokens are parsed, the messages' texts are not: a user who writes
   * `<|im_end|>` sends those characters. Throws `chat_template_failed`.
   */
  encode(messages: readonly ChatMessage[], options: { readonly addGenerationPrompt: boolean }): TokenId[];
  /** The control token right behind an assistant's text, which ends its turn; null where the template writes none. */
  endOfTurn(): TokenId | null;
  /** The rendered prompt as text. */
  render(messages: readonly ChatMessage[], options: { readonly addGenerationPrompt: boolean }): string;
}
