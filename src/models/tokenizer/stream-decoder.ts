import type { TokenId } from '../../core/units.js';
import type { StreamDecoder } from './tokenizer.js';

/**
 * Ids in, whole characters out. The text of all pushes and the flush is the decode of all ids at once, by the encoding standard's own
 * streaming decoder; tokens that are whole characters by themselves skip it while nothing is pending.
 */
export class Utf8StreamDecoder implements StreamDecoder {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  readonly #source: TokenBytes;
  /** False only if the bytes so far end with a whole character. */
  #isPending = false;

  constructor(source: TokenBytes) {
    this.#source = source;
  }

  push(id: TokenId): string {
    if (!this.#isPending) {
      const text = this.#source.wholeText(id);
      if (text !== null) return text;
    }
    const bytes = this.#source.visibleBytes(id);
    const last = bytes.at(-1);
    // An ASCII byte ends whatever came before it, as a character or as U+FFFD.
    if (last !== undefined) this.#isPending = last >= 0x80;
    return this.#decoder.decode(bytes, { stream: true });
  }

  flush(): string {
    this.#isPending = false;
    return this.#decoder.decode();
  }
}

export interface TokenBytes {
  /** The token's text where its bytes are whole characters by themselves ('' for a special token), else null. */
  wholeText(id: TokenId): string | null;
  /** The token's bytes; none for a special token. */
  visibleBytes(id: TokenId): Uint8Array;
}
