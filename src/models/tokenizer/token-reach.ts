/**
 * How far one token can reach in a text, by the two bytes that it starts with. From it comes a lower bound of a text's tokens that costs a
 * walk over the bytes and no merge, so that a prompt of megabytes is refused before it is encoded.
 */
export class TokenReach {
  /** Bytes of the longest token. */
  readonly longest: number;
  /** Indexed by first byte * 256 + second byte. */
  readonly #reach = new Int32Array(65_536).fill(1);

  constructor(tokens: Iterable<Uint8Array>) {
    let longest = 1;
    for (const token of tokens) {
      longest = Math.max(longest, token.length);
      if (token.length < 2) continue;
      const start = token[0]! * 256 + token[1]!;
      this.#reach[start] = Math.max(this.#reach[start]!, token.length);
    }
    this.longest = longest;
  }

  /**
   * Tokens that these bytes need at least. A token starts at any place that those before it may have reached, the farthest reach wins; true
   * tokenizations are among these, so none has fewer.
   * @param most Where the count exceeds it, the walk ends with `most + 1`.
   */
  fewest(bytes: Uint8Array, most: number): number {
    let count = 0;
    let reached = 0;
    let farthest = 0;
    for (let at = 0; at < bytes.length && count <= most; at++) {
      const reach = at + 1 < bytes.length ? this.#reach[bytes[at]! * 256 + bytes[at + 1]!]! : 1;
      farthest = Math.max(farthest, at + reach);
      if (at < reached) continue;
      count++;
      reached = farthest;
    }
    return count;
  }
}
