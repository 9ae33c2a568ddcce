/**
 * Byte-pair merges as tokenizer.json lists them: of all adjacent pairs the one that stands first in the list is merged, the leftmost
 * on a tie, until no pair is left. This is the definition that the fast path is checked against, and it stays O(n log n) on a piece
 * of any length.
 */
export interface MergeTrace {
  readonly ids: readonly number[];
  /** Index of the last merge made; null where none was. */
  readonly lastRank: number | null;
}

const GONE = -1;
/** A heap key is rank * POSITIONS + position, exact in a double for 2^21 merges and 2^32 positions. */
const POSITIONS = 2 ** 32;

export class Merges {
  readonly size: number;
  readonly #mask: number;
  // Open addressing: one entry a merge, by the pair's ids.
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #rank: Int32Array;
  readonly #result: Int32Array;

  /** @param size Merges that will be added. */
  constructor(size: number) {
    const capacity = 2 ** Math.ceil(Math.log2(Math.max(size, 1) * 2));
    this.size = size;
    this.#mask = capacity - 1;
    this.#left = new Int32Array(capacity).fill(GONE);
    this.#right = new Int32Array(capacity);
    this.#rank = new Int32Array(capacity);
    this.#result = new Int32Array(capacity);
  }

  /** A pair that is listed twice keeps its later rank, as in the reference. */
  add(left: number, right: number, rank: number, result: number): void {
    const entry = this.#find(left, right);
    this.#left[entry] = left;
    this.#right[entry] = right;
    this.#rank[entry] = rank;
    this.#result[entry] = result;
  }

  /** @param symbols Ids of a piece's bytes; consumed. */
  apply(symbols: Int32Array): MergeTrace {
    const length = symbols.length;
    const next = new Int32Array(length);
    const previous = new Int32Array(length);
    const heap = new MinHeap();
    const offer = (position: number): void => {
      const after = next[position]!;
      if (after >= length) return;
      const entry = this.#find(symbols[position]!, symbols[after]!);
      if (this.#left[entry] !== GONE) heap.push(this.#rank[entry]! * POSITIONS + position);
    };
    for (let index = 0; index < length; index++) {
      next[index] = index + 1;
      previous[index] = index - 1;
    }
    for (let index = 0; index < length; index++) offer(index);

    let lastRank: number | null = null;
    while (heap.size > 0) {
      const key = heap.pop();
      const rank = Math.floor(key / POSITIONS);
      const position = key - rank * POSITIONS;
      const after = next[position]!;
      if (symbols[position] === GONE || after >= length) continue;
      const entry = this.#find(symbols[position]!, symbols[after]!);
      // A key outlives its pair when a neighbour was merged first.
      if (this.#left[entry] === GONE || this.#rank[entry] !== rank) continue;
      symbols[position] = this.#result[entry]!;
      symbols[after] = GONE;
      const following = next[after]!;
      next[position] = following;
      if (following < length) previous[following] = position;
      lastRank = rank;
      if (previous[position]! >= 0) offer(previous[position]!);
      offer(position);
    }
    return { ids: Array.from(symbols.filter((id) => id !== GONE)), lastRank };
  }

  /** Index of the pair's entry, or of the free one where it would go. */
  #find(left: number, right: number): number {
    let entry = (Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)) >>> 0;
    entry = (entry ^ (entry >>> 15)) & this.#mask;
    while (this.#left[entry] !== GONE && (this.#left[entry] !== left || this.#right[entry] !== right)) {
      entry = (entry + 1) & this.#mask;
    }
    return entry;
  }
}

class MinHeap {
  readonly #keys: number[] = [];

  get size(): number {
    return this.#keys.length;
  }

  push(key: number): void {
    const keys = this.#keys;
    let child = keys.push(key) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[child] = keys[parent]!;
      child = parent;
    }
    keys[child] = key;
  }

  pop(): number {
    const keys = this.#keys;
    const top = keys[0]!;
    const moved = keys.pop()!;
    const size = keys.length;
    if (size === 0) return top;
    let parent = 0;
    for (;;) {
      let child = 2 * parent + 1;
      if (child >= size) break;
      if (child + 1 < size && keys[child + 1]! < keys[child]!) child++;
      if (keys[child]! >= moved) break;
      keys[parent] = keys[child]!;
      parent = child;
    }
    keys[parent] = moved;
    return top;
  }
}
