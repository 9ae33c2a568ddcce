import type { TokenId } from '../../core/units.js';
import { escapePattern } from './regex.js';

/** An entry of `added_tokens`: text that is one token wherever it stands, special or not. */
export interface AddedToken {
  readonly id: TokenId;
  readonly content: string;
  readonly special: boolean;
  /** Looked for after the normalizer has run, not before. */
  readonly normalized: boolean;
  /** Only where no word character touches it. */
  readonly singleWord: boolean;
  /** Takes the whitespace before it, or after it, into the token. */
  readonly leftStrip: boolean;
  readonly rightStrip: boolean;
}

const WORD = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]';
const endsWithWord = new RegExp(`${WORD}$`, 'u');
const startsWithWord = new RegExp(`^${WORD}`, 'u');
const leadingSpace = /^\p{White_Space}*/u;

/** Finds added tokens in a text: leftmost first, of several at one place the longest. */
export class AddedTokenMatcher {
  readonly #pattern: RegExp | null;
  readonly #byContent: ReadonlyMap<string, AddedToken>;

  constructor(tokens: readonly AddedToken[]) {
    const contents = tokens.map(({ content }) => content).sort((a, b) => b.length - a.length);
    this.#byContent = new Map(tokens.map((token) => [token.content, token]));
    this.#pattern = contents.length === 0 ? null : new RegExp(contents.map(escapePattern).join('|'), 'gu');
  }

  /** The text in order, as added tokens and the text between them (never empty). */
  split(text: string): (AddedToken | string)[] {
    if (this.#pattern === null) return text === '' ? [] : [text];
    const sections: (AddedToken | string)[] = [];
    let done = 0;
    for (const { 0: content, index } of text.matchAll(this.#pattern)) {
      const token = this.#byContent.get(content);
      if (token === undefined || index < done) continue;
      const end = index + content.length;
      if (token.singleWord && touchesWord(text, index, end)) continue;
      const start = token.leftStrip ? Math.max(done, trailingSpaceStart(text, index)) : index;
      if (start > done) sections.push(text.slice(done, start));
      sections.push(token);
      done = token.rightStrip ? end + (leadingSpace.exec(text.slice(end))?.[0].length ?? 0) : end;
    }
    if (done < text.length) sections.push(text.slice(done));
    return sections;
  }
}

/** Two code units hold the one character that matters on either side. */
const touchesWord = (text: string, start: number, end: number): boolean =>
  endsWithWord.test(text.slice(Math.max(0, start - 2), start)) ||
  startsWithWord.test(text.slice(end, end + 2));

const isSpace = /\p{White_Space}/u;

function trailingSpaceStart(text: string, end: number): number {
  let start = end;
  while (start > 0 && isSpace.test(text[start - 1]!)) start--;
  return start;
}
