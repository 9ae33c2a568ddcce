/** Amount a second, as an average that forgets: what happened `memory` seconds ago weighs 1/e. */
export class RateMeter {
  readonly #memorySeconds: number;
  #sum = 0;
  #at = 0;

  constructor(memorySeconds: number) {
    this.#memorySeconds = memorySeconds;
  }

  add(amount: number, nowSeconds: number): void {
    this.#sum = this.#decayed(nowSeconds) + amount;
    this.#at = nowSeconds;
  }

  perSecond(nowSeconds: number): number {
    return this.#decayed(nowSeconds) / this.#memorySeconds;
  }

  #decayed(nowSeconds: number): number {
    return this.#sum * Math.exp((this.#at - nowSeconds) / this.#memorySeconds);
  }
}
