/**
 * The k largest entries of a row without sorting it: a heap of k whose root is the worst kept, so that nearly every entry costs one
 * comparison. Of equal values the lower index ranks higher, as everywhere in the sampler.
 */
export class TopCandidates {
  #values = new Float64Array(64);
  #ids = new Int32Array(64);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Takes the k best entries of the row (all of them where the row is shorter), best first. */
  select(row: Float32Array, k: number): void {
    const size = Math.min(k, row.length);
    if (this.#values.length < size) {
      this.#values = new Float64Array(size);
      this.#ids = new Int32Array(size);
    }
    this.#size = size;
    if (size === 0) return;
    for (let i = 0; i < size; i++) {
      this.#values[i] = row[i] as number;
      this.#ids[i] = i;
    }
    for (let i = (size >> 1) - 1; i >= 0; i--) this.#sink(i, size);
    let worst = this.#values[0] as number;
    for (let i = size; i < row.length; i++) {
      const value = row[i] as number;
      if (value <= worst) continue;
      this.#values[0] = value;
      this.#ids[0] = i;
      this.#sink(0, size);
      worst = this.#values[0] as number;
    }
    this.#sort();
  }

  value(rank: number): number {
    return this.#values[rank] as number;
  }

  id(rank: number): number {
    return this.#ids[rank] as number;
  }

  /** Whether entry a ranks below entry b. */
  #worse(a: number, b: number): boolean {
    const left = this.#values[a] as number;
    const right = this.#values[b] as number;
    return left < right || (left === right && (this.#ids[a] as number) > (this.#ids[b] as number));
  }

  #swap(a: number, b: number): void {
    const value = this.#values[a] as number;
    const id = this.#ids[a] as number;
    this.#values[a] = this.#values[b] as number;
    this.#ids[a] = this.#ids[b] as number;
    this.#values[b] = value;
    this.#ids[b] = id;
  }

  #sink(from: number, size: number): void {
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) return;
      if (child + 1 < size && this.#worse(child + 1, child)) child++;
      if (!this.#worse(child, at)) return;
      this.#swap(child, at);
      at = child;
    }
  }

  /** Heap sort: the worst goes last each time, which leaves the best first. */
  #sort(): void {
    for (let end = this.#size - 1; end > 0; end--) {
      this.#swap(0, end);
      this.#sink(0, end);
    }
  }
}
