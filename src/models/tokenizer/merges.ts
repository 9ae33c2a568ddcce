/**
 * Byte-pair merges as tokenizer.json lists them: of all adjacent pairs the one that stands first in the list is merged, the leftmost
 * on a tie, until no pair is left. This is the definition that the fast path is checked against, and it stays O(n log n) on a piece
 * of any length.
 */
export interface MergeTrace {
  readonly ids: readonly number[];
  /** Index in the list of the last merge made; null where none was. */
  readonly lastRank: number | null;
}

const GONE = -1;
/** A heap key is rank * POSITIONS + position: exact in a double for 2^21 merges and 2^32 positions. */
const POSITIONS = 2 ** 32;

export class Merges {
  readonly size: number;
  readonly #mask: number;
  // Open addressing: one entry a merge, found by the pair's ids.
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #rank: Int32Array;
  readonly #result: Int32Array;
  // The piece at work, as a linked list over its bytes; kept between calls, most pieces are a few bytes.
  #symbols = new Int32Array(64);
  #next = new Int32Array(64);
  #previous = new Int32Array(64);
  readonly #heap = new MinHeap();

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

  /** @param piece Ids of the piece's bytes. */
  apply(piece: ArrayLike<number>): MergeTrace {
    this.#load(piece);
    const symbols = this.#symbols;
    const next = this.#next;
    let lastRank: number | null = null;
    while (this.#heap.size > 0) {
      const key = this.#heap.pop();
      const rank = Math.floor(key / POSITIONS);
      const position = key - rank * POSITIONS;
      const after = next[position]!;
      if (symbols[position] === GONE || after === GONE) continue;
      const entry = this.#find(symbols[position]!, symbols[after]!);
      // A key outlives its pair when a neighbour was merged first.
      if (this.#left[entry] === GONE || this.#rank[entry] !== rank) continue;
      symbols[position] = this.#result[entry]!;
      symbols[after] = GONE;
      next[position] = next[after]!;
      if (next[position] !== GONE) this.#previous[next[position]!] = position;
      lastRank = rank;
      if (this.#previous[position] !== GONE) this.#offer(this.#previous[position]!);
      this.#offer(position);
    }
    const ids: number[] = [];
    for (let position = 0; position !== GONE && piece.length > 0; position = next[position]!) {
      ids.push(symbols[position]!);
    }
    return { ids, lastRank };
  }

  #load(piece: ArrayLike<number>): void {
    const length = piece.length;
    if (length > this.#symbols.length) {
      this.#symbols = new Int32Array(length * 2);
      this.#next = new Int32Array(length * 2);
      this.#previous = new Int32Array(length * 2);
    }
    for (let index = 0; index < length; index++) {
      this.#symbols[index] = piece[index]!;
      this.#next[index] = index + 1 < length ? index + 1 : GONE;
      this.#previous[index] = index > 0 ? index - 1 : GONE;
    }
    for (let index = 0; index < length; index++) this.#offer(index);
  }

  /** Puts the pair that starts at a position into the heap, if it is in the list. */
  #offer(position: number): void {
    const after = this.#next[position]!;
    if (after === GONE) return;
    const entry = this.#find(this.#symbols[position]!, this.#symbols[after]!);
    if (this.#left[entry] !== GONE) this.#heap.push(this.#rank[entry]! * POSITIONS + position);
  }

  /** Index of the pair's entry, or of the free one where it would go. */
  #find(left: number, right: number): number {
    const lefts = this.#left;
    let entry = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    entry = (entry ^ (entry >>> 15)) & this.#mask;
    while (lefts[entry] !== GONE && (lefts[entry] !== left || this.#right[entry] !== right)) {
      entry = (entry + 1) & this.#mask;
    }
    return entry;
  }
}

class MinHeap {
  #keys = new Float64Array(64);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  push(key: number): void {
    if (this.#size === this.#keys.length) {
      const grown = new Float64Array(this.#size * 2);
      grown.set(this.#keys);
      this.#keys = grown;
    }
    const keys = this.#keys;
    let child = this.#size++;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[child] = keys[parent]!;
      child = parent;
    }
    keys[child] = key;
  }

  /** The smallest key; the heap is not empty. */
  pop(): number {
    const keys = this.#keys;
    const top = keys[0]!;
    const size = --this.#size;
    const moved = keys[size]!;
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
