/**
 * Trains a byte-level BPE (Sennrich et al. 2016, over bytes as GPT-2) and gives it as a Hugging Face tokenizer.json. For small
 * vocabularies over corpora that fit in memory: pairs are counted once and then kept up to date at each merge.
 */

import { charOfByte } from './byte-alphabet.js';

/** GPT-2's pre-tokenizer. */
const PATTERN = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

export interface BpeOptions {
  /** All ids: 256 bytes, merges and special tokens. */
  readonly vocabularySize: number;
  /** They take the last ids, in this order. */
  readonly specialTokens: readonly string[];
}

export interface TrainedBpe {
  /** token text (in GPT-2's byte alphabet) -> id */
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly merges: readonly (readonly [string, string])[];
  /** The file's content, as an object. */
  readonly tokenizerJson: Record<string, unknown>;
}

interface Word {
  symbols: string[];
  readonly count: number;
}

/** A pair's key; the byte alphabet has no NUL. */
const keyOf = (left: string, right: string): string => `${left}\0${right}`;

/** Merges are taken by count; a tie goes to the pair that sorts first, so that the result follows from the corpus alone. */
export function trainBpe(documents: Iterable<string>, options: BpeOptions): TrainedBpe {
  const words = countWords(documents);
  const pairs = new PairCounts(words);
  const tokens = Array.from({ length: 256 }, (_, byte) => charOfByte(byte));
  const known = new Set(tokens);
  const merges: [string, string][] = [];
  while (tokens.length + options.specialTokens.length < options.vocabularySize) {
    const best = pairs.mostFrequent();
    if (best === null) break;
    merges.push(best);
    const joined = best[0] + best[1];
    if (!known.has(joined)) {
      known.add(joined);
      tokens.push(joined);
    }
    pairs.merge(best);
  }
  const vocabulary = new Map([...tokens, ...options.specialTokens].map((token, id) => [token, id]));
  return { vocabulary, merges, tokenizerJson: toTokenizerJson(vocabulary, merges, options.specialTokens) };
}

function countWords(documents: Iterable<string>): Word[] {
  const counts = new Map<string, number>();
  for (const document of documents)
    for (const [word] of document.matchAll(PATTERN)) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].map(([word, count]) => ({
    symbols: Array.from(Buffer.from(word), charOfByte),
    count,
  }));
}

class PairCounts {
  readonly #words: readonly Word[];
  readonly #counts = new Map<string, number>();
  /** pair -> indexes of words that held it at some time */
  readonly #places = new Map<string, Set<number>>();

  constructor(words: readonly Word[]) {
    this.#words = words;
    words.forEach((word, index) => {
      this.#add(word, index, 1);
    });
  }

  mostFrequent(): [string, string] | null {
    let best: string | null = null;
    let most = 1; // a pair seen once is no pattern
    for (const [key, count] of this.#counts) {
      if (count > most || (count === most && best !== null && key < best)) {
        best = key;
        most = count;
      }
    }
    return best === null ? null : (best.split('\0') as [string, string]);
  }

  merge([left, right]: readonly [string, string]): void {
    for (const index of this.#places.get(keyOf(left, right)) ?? []) {
      const word = this.#words[index]!;
      this.#add(word, index, -1);
      word.symbols = mergeSymbols(word.symbols, left, right);
      this.#add(word, index, 1);
    }
  }

  #add(word: Word, index: number, sign: 1 | -1): void {
    for (let i = 1; i < word.symbols.length; i++) {
      const key = keyOf(word.symbols[i - 1]!, word.symbols[i]!);
      const count = (this.#counts.get(key) ?? 0) + sign * word.count;
      if (count === 0) this.#counts.delete(key);
      else this.#counts.set(key, count);
      if (sign === 1) {
        const places = this.#places.get(key);
        if (places === undefined) this.#places.set(key, new Set([index]));
        else places.add(index);
      }
    }
  }
}

function mergeSymbols(symbols: readonly string[], left: string, right: string): string[] {
  const merged: string[] = [];
  for (let i = 0; i < symbols.length; i++) {
    if (symbols[i] === left && symbols[i + 1] === right) {
      merged.push(left + right);
      i++;
    } else merged.push(symbols[i]!);
  }
  return merged;
}

function toTokenizerJson(
  vocabulary: ReadonlyMap<string, number>,
  merges: readonly (readonly [string, string])[],
  specialTokens: readonly string[],
): Record<string, unknown> {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content) => ({
      id: vocabulary.get(content),
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: byteLevel,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocabulary),
      merges: merges.map((pair) => [...pair]),
    },
  };
}
