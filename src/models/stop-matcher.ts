/** Text that is safe to send, and the stop string that ended it, if one did. */
export interface Matched {
  readonly text: string;
  readonly stop: string | null;
}

/**
 * Finds stop strings in a stream of text, whatever pieces it comes in. Text that may be the start of a stop string is held back; the
 * stop string that is complete first ends the stream, as if the text came character by character.
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  #held = '';

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop.length > 0);
  }

  push(piece: string): Matched {
    const text = this.#held + piece;
    const found = this.#firstComplete(text);
    if (found !== null) {
      this.#held = '';
      return { text: text.slice(0, found.start), stop: found.stop };
    }
    const safe = text.length - this.#heldBack(text);
    this.#held = text.slice(safe);
    return { text: text.slice(0, safe), stop: null };
  }

  /** The stream ended otherwise: what was held back is text after all. */
  flush(): string {
    const text = this.#held;
    this.#held = '';
    return text;
  }

  #firstComplete(text: string): { stop: string; start: number } | null {
    let best: { stop: string; start: number } | null = null;
    for (const stop of this.#stops) {
      const start = text.indexOf(stop);
      if (start < 0) continue;
      const end = start + stop.length;
      const bestEnd = best === null ? Number.POSITIVE_INFINITY : best.start + best.stop.length;
      // Of two that end together the longer one leaves less text.
      if (end < bestEnd || (end === bestEnd && best !== null && start < best.start)) best = { stop, start };
    }
    return best;
  }

  /** Length of the longest end of the text that a stop string may begin with. */
  #heldBack(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
