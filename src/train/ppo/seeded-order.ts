import { Rng } from '../../core/rng.js';
import { shuffle } from '../data/length-grouping.js';

/** 0 .. size - 1 in a seeded order. */
export const shuffledIndices = (size: number, rng: Rng): number[] =>
  shuffle(
    Array.from({ length: size }, (_, index) => index),
    rng,
  );

/**
 * An endless walk over a dataset, shuffled anew in each pass. What stands at a place follows from the seed and the place alone, so that
 * a cursor is one number and a resumed run meets the same items.
 */
export class SeededOrder {
  readonly #size: number;
  readonly #seed: number;
  readonly #firstStream: number;
  #pass = -1;
  #order: readonly number[] = [];

  /** @param firstStream of the seed; pass i is shuffled by stream firstStream + i */
  constructor(size: number, seed: number, firstStream: number) {
    this.#size = size;
    this.#seed = seed;
    this.#firstStream = firstStream;
  }

  /** Indices of the items at the places cursor .. cursor + count - 1. */
  take(cursor: number, count: number): number[] {
    return Array.from({ length: count }, (_, at) => this.#at(cursor + at));
  }

  #at(place: number): number {
    const pass = Math.floor(place / this.#size);
    if (pass !== this.#pass) {
      this.#pass = pass;
      this.#order = shuffledIndices(this.#size, new Rng(this.#seed, this.#firstStream + pass));
    }
    return this.#order[place % this.#size]!;
  }
}
