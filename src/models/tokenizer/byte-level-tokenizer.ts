import { AppError } from '../../core/errors.js';
import { type TokenId, tokenId } from '../../core/units.js';
import { type AddedToken, AddedTokenMatcher } from './added-tokens.js';
import { bytesOfEntry } from './byte-alphabet.js';
import { PieceEncoder } from './piece-encoder.js';
import { preTokenize } from './pre-tokenizer.js';
import { type TokenBytes, Utf8StreamDecoder } from './stream-decoder.js';
import { TokenReach } from './token-reach.js';
import type { SpecialText, StreamDecoder, Tokenizer } from './tokenizer.js';
import type { TokenizerFile } from './tokenizer-file.js';

/** What the files beside tokenizer.json say of special ids. */
export interface SpecialIds {
  readonly beginOfText: TokenId | null;
  readonly endOfText: ReadonlySet<TokenId>;
  /** Rows of the model's embedding, where they are more than the tokenizer has ids. */
  readonly modelVocabularySize: number;
}

/** Matchers before and after the normalizer. */
interface Matchers {
  readonly raw: AddedTokenMatcher;
  readonly normalized: AddedTokenMatcher;
}

export class ByteLevelTokenizer implements Tokenizer, TokenBytes {
  readonly vocabularySize: number;
  readonly beginOfText: TokenId | null;
  readonly endOfText: ReadonlySet<TokenId>;
  readonly specialTokens: ReadonlyMap<string, TokenId>;
  readonly #file: TokenizerFile;
  readonly #pieces: PieceEncoder;
  readonly #matchers: Readonly<Record<SpecialText, Matchers>>;
  readonly #specialIds: ReadonlySet<TokenId>;
  /** Bytes of token i are #bytes[#starts[i] .. #starts[i + 1]). */
  readonly #bytes: Uint8Array;
  readonly #starts: Uint32Array;
  /** null: encode may drop any part of a text, so none can be counted on. */
  readonly #reach: TokenReach | null;
  readonly #wholeTexts: (string | null | undefined)[] = [];

  /** @throws AppError `tokenizer_not_supported` */
  constructor(file: TokenizerFile, ids: SpecialIds) {
    const specials = file.addedTokens.filter((token) => token.special);
    this.#file = file;
    this.#pieces = new PieceEncoder(file);
    this.#matchers = {
      parse: this.#matchersOf(file.addedTokens),
      as_text: this.#matchersOf(file.addedTokens.filter((token) => !token.special)),
    };
    this.specialTokens = new Map(specials.map((token) => [token.content, token.id]));
    this.#specialIds = new Set(specials.map((token) => token.id));
    this.beginOfText = ids.beginOfText;
    this.endOfText = ids.endOfText;
    ({ bytes: this.#bytes, starts: this.#starts } = layOutBytes(file, ids.modelVocabularySize));
    this.vocabularySize = this.#starts.length - 1;
    this.#reach = this.#dropsText() ? null : new TokenReach(this.#allBytes());
  }

  encode(text: string, special: SpecialText): TokenId[] {
    return this.#encode(text, special, (section, ids) => this.#encodePlain(section, ids));
  }

  fewestTokens(text: string, most: number): number {
    const reach = this.#reach;
    if (reach === null) return 0;
    const bytes = Buffer.from(this.#normalize(wellFormed(text)));
    // What lies behind this many bytes cannot matter.
    return reach.fewest(this.#pieces.keptBytes(bytes, (most + 1) * reach.longest), most);
  }

  /**
   * Encodes a text in which some characters are masked so that no special token starts there. Special tokens are found in the masked
   * text; what lies between is unmasked and read as text.
   */
  encodeMasked(text: string, unmask: (section: string) => string): TokenId[] {
    return this.#encode(text, 'parse', (section, ids) => {
      const plain = unmask(section);
      if (plain === section) this.#encodePlain(section, ids);
      else for (const id of this.encode(plain, 'as_text')) ids.push(id);
    });
  }

  withSpecialTokens(ids: readonly TokenId[]): TokenId[] {
    return [...this.#file.prefix, ...ids, ...this.#file.suffix];
  }

  bytesOf(id: TokenId): Uint8Array {
    return this.#viewOf(id).slice();
  }

  isSpecial(id: TokenId): boolean {
    return this.#specialIds.has(id);
  }

  decode(ids: readonly TokenId[], specials: 'skip' | 'keep' = 'skip'): string {
    const kept = specials === 'keep' ? ids : ids.filter((id) => !this.isSpecial(id));
    const parts = kept.map((id) => this.#viewOf(id));
    return wholeDecoder.decode(Buffer.concat(parts));
  }

  streamDecoder(): StreamDecoder {
    return new Utf8StreamDecoder(this);
  }

  visibleBytes(id: TokenId): Uint8Array {
    return this.isSpecial(id) ? noBytes : this.#viewOf(id);
  }

  wholeText(id: TokenId): string | null {
    const known = this.#wholeTexts[id];
    if (known !== undefined) return known;
    const text = wholeTextOf(this.visibleBytes(id));
    this.#wholeTexts[id] = text;
    return text;
  }

  #encode(text: string, special: SpecialText, plain: (section: string, ids: TokenId[]) => void): TokenId[] {
    const ids: TokenId[] = [];
    const { raw, normalized } = this.#matchers[special];
    for (const outer of raw.split(wellFormed(text))) {
      if (typeof outer !== 'string') ids.push(outer.id);
      else {
        for (const inner of normalized.split(this.#normalize(outer))) {
          if (typeof inner === 'string') plain(inner, ids);
          else ids.push(inner.id);
        }
      }
    }
    return ids;
  }

  #encodePlain(section: string, ids: TokenId[]): void {
    for (const piece of preTokenize(section, this.#file.stages)) {
      for (const id of this.#pieces.encode(piece)) ids.push(tokenId(id));
    }
  }

  #normalize(text: string): string {
    return this.#file.normalForms.reduce((done, form) => done.normalize(form), text);
  }

  #dropsText(): boolean {
    const { addedTokens, stages } = this.#file;
    return (
      addedTokens.some(({ leftStrip, rightStrip }) => leftStrip || rightStrip) ||
      stages.some((stage) => stage.type === 'split' && stage.keep !== 'both')
    );
  }

  *#allBytes(): Generator<Uint8Array> {
    for (let id = 0; id < this.vocabularySize; id++) yield this.#viewOf(tokenId(id));
    for (const { content } of this.#file.addedTokens) yield Buffer.from(this.#normalize(content));
  }

  #matchersOf(tokens: readonly AddedToken[]): Matchers {
    const normalized = tokens.filter((token) => token.normalized);
    return {
      raw: new AddedTokenMatcher(tokens.filter((token) => !token.normalized)),
      normalized: new AddedTokenMatcher(
        normalized.map((token) => ({ ...token, content: this.#normalize(token.content) })),
      ),
    };
  }

  #viewOf(id: TokenId): Uint8Array {
    const start = this.#starts[id];
    const end = this.#starts[id + 1];
    if (start === undefined || end === undefined) {
      throw new AppError(
        'invalid_value',
        `Token id ${id} is outside the vocabulary of 0 .. ${this.vocabularySize - 1}.`,
      );
    }
    return this.#bytes.subarray(start, end);
  }
}

const noBytes = new Uint8Array(0);
const wholeDecoder = new TextDecoder('utf-8', { ignoreBOM: true });
const strictDecoder = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

/** UTF-8 has no lone surrogates: each becomes U+FFFD, as in any encoder of the platform. */
const wellFormed = (text: string): string => text.toWellFormed();

function wholeTextOf(bytes: Uint8Array): string | null {
  try {
    return strictDecoder.decode(bytes);
  } catch {
    return null;
  }
}

/** All tokens' bytes in one buffer; an id that no token has is empty. An added token gives its own text. */
function layOutBytes(
  file: TokenizerFile,
  modelVocabularySize: number,
): { bytes: Uint8Array; starts: Uint32Array } {
  const entries: Uint8Array[] = [];
  for (const entry in file.vocabulary)
    entries[file.vocabulary[entry]!] = bytesOfEntry(entry) ?? Buffer.from(entry);
  for (const { id, content } of file.addedTokens) entries[id] = Buffer.from(content);
  const size = Math.max(entries.length, modelVocabularySize);
  const starts = new Uint32Array(size + 1);
  for (let id = 0; id < size; id++) starts[id + 1] = starts[id]! + (entries[id]?.length ?? 0);
  const bytes = new Uint8Array(starts[size]!);
  for (let id = 0; id < size; id++) bytes.set(entries[id] ?? noBytes, starts[id]!);
  return { bytes, starts };
}
