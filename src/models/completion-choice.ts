import type { TokenId } from '../core/units.js';
import type { PromptLogprob, TokenEvent, TokenLogprob } from './engine/engine.js';
import { StopMatcher } from './stop-matcher.js';
import type { CompletionAsk, TextToken } from './text-model.js';
import type { StreamDecoder, Tokenizer } from './tokenizer/tokenizer.js';

/** Text that may be sent, and the tokens whose text ends in it. */
export interface Piece {
  readonly text: string;
  readonly tokens: readonly TextToken[];
}

const utf8 = new TextDecoder();

/**
 * One choice of a completion: token ids become text that is whole characters and no part of a stop string. It sends a token with the text
 * that its own text ends in.
 */
export class CompletionChoice {
  /** Tokens generated, not those of an echoed prompt. */
  tokens = 0;
  logprobSum = 0;
  readonly #ask: CompletionAsk;
  readonly #tokenizer: Tokenizer;
  readonly #decoder: StreamDecoder;
  readonly #matcher: StopMatcher;
  readonly #held: { readonly token: TextToken; readonly end: number }[] = [];
  /** UTF-16 units that the decoder gave, and that were sent. */
  #decoded = 0;
  #sent = 0;

  constructor(ask: CompletionAsk, tokenizer: Tokenizer) {
    this.#ask = ask;
    this.#tokenizer = tokenizer;
    this.#decoder = tokenizer.streamDecoder();
    this.#matcher = new StopMatcher(ask.stop);
  }

  /** The prompt, as text: its own special tokens are shown, and no stop string is looked for in it. */
  echo(prompt: readonly TokenId[], logprobs: readonly (PromptLogprob | null)[] | null): Piece {
    let text = '';
    for (const [position, id] of prompt.entries()) {
      const start = this.#decoded;
      const piece = this.#tokenizer.isSpecial(id)
        ? this.#decoder.flush() + this.#textOf(id)
        : this.#decoder.push(id);
      this.#decoded += piece.length;
      text += piece;
      this.#hold(id, start, logprobs?.[position]?.logprob ?? null, logprobs?.[position]?.top ?? []);
    }
    return this.#send(text);
  }

  /** A generated token. `stop` is the stop string that it completed: the choice is over then. */
  push({ id, logprob, top }: Extract<TokenEvent, { type: 'token' }>): Piece & { stop: string | null } {
    this.tokens++;
    this.logprobSum += logprob ?? 0;
    const start = this.#decoded;
    const decoded = this.#decoder.push(id);
    this.#decoded += decoded.length;
    this.#hold(
      id,
      start,
      this.#ask.logprobs === null ? null : logprob,
      this.#ask.logprobs === null ? [] : top,
    );
    const { text, stop } = this.#matcher.push(decoded);
    if (stop === null) return { ...this.#send(text), stop };
    return { ...this.#sendLast(this.#ask.includeStop ? text + stop : text), stop };
  }

  /** The sequence ended: an unfinished character and held back text come out. `stop` as in `push`. */
  end(): Piece & { stop: string | null } {
    const rest = this.#decoder.flush();
    this.#decoded += rest.length;
    const { text, stop } = this.#matcher.push(rest);
    if (stop !== null) return { ...this.#sendLast(this.#ask.includeStop ? text + stop : text), stop };
    return { ...this.#sendLast(text + this.#matcher.flush()), stop };
  }

  #hold(id: TokenId, offset: number, logprob: TextToken['logprob'], top: readonly TokenLogprob[]): void {
    const token: TextToken = {
      ...this.#spell(id),
      id,
      logprob,
      top: top.map((entry) => ({ ...entry, ...this.#spell(entry.id) })),
      offset,
    };
    this.#held.push({ token, end: this.#decoded });
  }

  #send(text: string): Piece {
    this.#sent += text.length;
    const tokens: TextToken[] = [];
    while (this.#held[0] !== undefined && this.#held[0].end <= this.#sent) {
      tokens.push((this.#held.shift() as { token: TextToken }).token);
    }
    return { text, tokens };
  }

  /** What is cut off by a stop string is not sent, nor the tokens that lie in it whole. */
  #sendLast(text: string): Piece {
    this.#sent += text.length;
    const tokens = this.#held.filter(({ token, end }) => token.offset < this.#sent || end <= this.#sent);
    this.#held.length = 0;
    return { text, tokens: tokens.map(({ token }) => token) };
  }

  #spell(id: TokenId): { text: string; bytes: Uint8Array } {
    const bytes = this.#tokenizer.bytesOf(id);
    return { text: utf8.decode(bytes), bytes };
  }

  #textOf(id: TokenId): string {
    return this.#spell(id).text;
  }
}
