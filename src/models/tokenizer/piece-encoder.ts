import { Tiktoken } from 'tiktoken/lite';
import { bytesOfEntry, charOfByte } from './byte-alphabet.js';
import { Merges } from './merges.js';
import { type TokenizerFile, unsupported } from './tokenizer-file.js';

/**
 * One pre-tokenized piece -> ids. tiktoken does it, from ranks that are proven to give what the file's merges give; pieces that are too
 * long for its quadratic merge, or hold a byte that the vocabulary lacks, go through the merges themselves.
 *
 * Why the ranks are exact. tiktoken merges any adjacent pair whose joined bytes have a rank, the file only pairs that it lists. Apply the
 * file's merges to the bytes of each token t alone. If c and d ever stand side by side in a piece with c + d = t, no merge has crossed
 * their borders, so the same merges in the same order lead from t's bytes to exactly [c, d]. So where t's bytes end as [t], the state
 * before is the one pair that can ever make t, and its place in the list is t's rank. Where they end otherwise, no listed pair makes t in
 * any text, and t gets no rank. By induction over the steps both merge the same pairs. A token without rank matters only with
 * `ignore_merges`: it must be found as a whole piece, and may be given a rank if its bytes end as three tokens or more, since then no
 * adjacent pair ever joins to it; with two, tiktoken would merge what the file does not, and the tokenizer is refused.
 */
export class PieceEncoder {
  readonly #tiktoken: Tiktoken;
  readonly #merges: Merges;
  readonly #idOfRank: Int32Array;
  /** Vocabulary id of each byte; ABSENT where the vocabulary lacks it, which drops the byte. */
  readonly #idOfByte: Int32Array;
  readonly #absentBytes: boolean;
  readonly #longestForTiktoken: number;
  #cache = new Map<string, readonly number[]>();

  constructor(file: TokenizerFile) {
    this.#idOfByte = idsOfBytes(file);
    this.#absentBytes = this.#idOfByte.includes(ABSENT);
    this.#merges = readMerges(file);
    const ranks = rankTokens(file, this.#merges, this.#idOfByte);
    this.#idOfRank = ranks.idOfRank;
    // A whole-piece token must be looked up by tiktoken however long it is.
    this.#longestForTiktoken = Math.max(LONG_PIECE_BYTES, ranks.longestToken);
    this.#tiktoken = new Tiktoken(ranks.lines.join('\n'), {}, '[\\s\\S]+');
  }

  /** @param piece Not empty, without lone surrogates. */
  encode(piece: string): readonly number[] {
    const known = this.#cache.get(piece);
    if (known !== undefined) return known;
    const ids = this.#compute(piece);
    if (piece.length > CACHED_PIECE_LENGTH) return ids;
    if (this.#cache.size >= CACHED_PIECES) this.#cache = new Map();
    this.#cache.set(piece, ids);
    return ids;
  }

  /** The bytes that have a token, up to `most` of them; the others vanish from a text. */
  keptBytes(bytes: Uint8Array, most: number): Uint8Array {
    if (!this.#absentBytes) return bytes.subarray(0, most);
    const kept = new Uint8Array(Math.min(bytes.length, most));
    let length = 0;
    for (let at = 0; at < bytes.length && length < kept.length; at++) {
      if (this.#idOfByte[bytes[at]!] !== ABSENT) kept[length++] = bytes[at]!;
    }
    return kept.subarray(0, length);
  }

  #compute(piece: string): readonly number[] {
    const isShort = piece.length * 3 <= this.#longestForTiktoken;
    if (isShort && !this.#absentBytes) return this.#byTiktoken(piece);
    const bytes = Buffer.from(piece, 'utf8');
    const symbols = symbolsOf(bytes, this.#idOfByte);
    if (symbols.includes(ABSENT)) return this.#merges.apply(symbols.filter((id) => id !== ABSENT)).ids;
    if (bytes.length <= this.#longestForTiktoken) return this.#byTiktoken(piece);
    return this.#merges.apply(symbols).ids;
  }

  #byTiktoken(piece: string): readonly number[] {
    return Array.from(this.#tiktoken.encode_ordinary(piece), (rank) => this.#idOfRank[rank]!);
  }
}

const ABSENT = -1;
/** tiktoken's merge takes the square of the length; from here on O(n log n) in JavaScript is the faster one. */
const LONG_PIECE_BYTES = 384;
const CACHED_PIECES = 32_768;
const CACHED_PIECE_LENGTH = 48;

function idsOfBytes({ vocabulary }: TokenizerFile): Int32Array {
  return Int32Array.from({ length: 256 }, (_, byte) => vocabulary[charOfByte(byte)] ?? ABSENT);
}

function symbolsOf(bytes: Uint8Array, idOfByte: Int32Array): Int32Array {
  const symbols = new Int32Array(bytes.length);
  for (let index = 0; index < bytes.length; index++) symbols[index] = idOfByte[bytes[index]!]!;
  return symbols;
}

function readMerges({ vocabulary, merges }: TokenizerFile): Merges {
  const table = new Merges(merges.length);
  merges.forEach(([left, right], rank) => {
    const ids = [vocabulary[left], vocabulary[right], vocabulary[left + right]];
    const [first, second, result] = ids;
    if (first === undefined || second === undefined || result === undefined) {
      throw unsupported(`model.merges.${rank}`, `${left} + ${right} is not made of tokens of the vocabulary`);
    }
    table.add(first, second, rank, result);
  });
  return table;
}

interface Ranks {
  /** tiktoken's file format: base64 of the token's bytes, a space, its rank. */
  readonly lines: readonly string[];
  readonly idOfRank: Int32Array;
  /** Bytes of the longest ranked token. */
  readonly longestToken: number;
}

/** Ranks 0..255 are the bytes, then one rank a merge, then the tokens that only a whole piece can be. */
function rankTokens(file: TokenizerFile, merges: Merges, idOfByte: Int32Array): Ranks {
  const entries = Object.keys(file.vocabulary);
  const specials = new Set(file.addedTokens.filter((token) => token.special).map(({ content }) => content));
  const lines: string[] = [];
  const idOfRank = new Int32Array(256 + merges.size + entries.length);
  let longestToken = 1;
  let wholeRank = 256 + merges.size;
  for (const entry of entries) {
    const bytes = bytesOfEntry(entry);
    if (bytes === null || bytes.length === 0 || specials.has(entry)) continue;
    const symbols = symbolsOf(bytes, idOfByte);
    // No text can hold such a byte and keep it.
    if (symbols.includes(ABSENT)) continue;
    const { ids, lastRank } = merges.apply(symbols);
    const isReached = ids.length === 1;
    if (!isReached && !file.ignoreMerges) continue;
    if (!isReached && ids.length === 2) {
      throw unsupported(
        'model.ignore_merges',
        `the merges give ${JSON.stringify(entry)} as two tokens, not as itself`,
      );
    }
    const byteOrMerge = lastRank === null ? bytes[0]! : 256 + lastRank;
    const rank = isReached ? byteOrMerge : wholeRank++;
    lines.push(`${Buffer.from(bytes.buffer).toString('base64')} ${rank}`);
    idOfRank[rank] = file.vocabulary[entry]!;
    longestToken = Math.max(longestToken, bytes.length);
  }
  return { lines, idOfRank, longestToken };
}
