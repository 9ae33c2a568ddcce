import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { charOfByte } from '../../../../src/models/tokenizer/byte-alphabet.js';

export interface SmallTokenizer {
  readonly merges?: readonly (readonly [string, string])[];
  /** Entries of the vocabulary that no merge makes. */
  readonly extra?: readonly string[];
  readonly model?: Readonly<Record<string, unknown>>;
  readonly file?: Readonly<Record<string, unknown>>;
  readonly addedTokens?: readonly (Readonly<Record<string, unknown>> & { readonly content: string })[];
}

/** A tokenizer.json: ids 0..255 are the bytes, then the merges' results, the extra entries and the added tokens in order. */
export function smallTokenizerFile(small: SmallTokenizer): Record<string, unknown> {
  const { merges = [], extra = [], model = {}, file = {}, addedTokens = [] } = small;
  const entries = new Set(Array.from({ length: 256 }, (_, byte) => charOfByte(byte)));
  for (const [left, right] of merges) entries.add(left + right);
  for (const entry of extra) entries.add(entry);
  const vocab = Object.fromEntries([...entries].map((entry, id) => [entry, id]));
  return {
    added_tokens: addedTokens.map((token, index) => ({ id: entries.size + index, special: true, ...token })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab, merges, ...model },
    ...file,
  };
}

/** A model directory with these files. */
export function modelDirectory(files: Readonly<Record<string, unknown>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'instructd-tokenizer-'));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(directory, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return directory;
}
