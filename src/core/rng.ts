/**
 * Seeded, serialisable generator: PCG32 (XSH-RR 64/32; O'Neill 2014), 64-bit state kept as two unsigned 32-bit halves so that
 * no BigInt is made a draw. Streams are independent: two generators of one seed and different streams share no sequence.
 */
export interface RngState {
  readonly stateHigh: number;
  readonly stateLow: number;
  readonly incrementHigh: number;
  readonly incrementLow: number;
}

const MULTIPLIER_HIGH = 0x5851f42d;
const MULTIPLIER_LOW = 0x4c957f2d;

export class Rng {
  #high = 0;
  #low = 0;
  readonly #incrementHigh: number;
  readonly #incrementLow: number;

  /**
   * @param seed   Any 64-bit integer, or a safe integer.
   * @param stream Index of the sequence under that seed, 0 .. 2^63 - 1.
   */
  constructor(seed: number | bigint, stream: number | bigint = 0) {
    const start = BigInt.asUintN(64, BigInt(seed));
    const increment = BigInt.asUintN(64, (BigInt(stream) << 1n) | 1n);
    this.#incrementHigh = Number(increment >> 32n);
    this.#incrementLow = Number(increment & 0xffffffffn);
    this.#advance();
    this.#add(Number(start >> 32n), Number(start & 0xffffffffn));
    this.#advance();
  }

  static restore(state: RngState): Rng {
    const increment = (BigInt(state.incrementHigh) << 32n) | BigInt(state.incrementLow);
    const rng = new Rng(0, increment >> 1n);
    rng.#high = state.stateHigh;
    rng.#low = state.stateLow;
    return rng;
  }

  get state(): RngState {
    return {
      stateHigh: this.#high,
      stateLow: this.#low,
      incrementHigh: this.#incrementHigh,
      incrementLow: this.#incrementLow,
    };
  }

  /** Uniform integer in [0, 2^32). */
  uint32(): number {
    const high = this.#high;
    const low = this.#low;
    this.#advance();
    // ((state >> 18) ^ state) >> 27, the low 32 bits of it.
    const mixedHigh = (high >>> 18) ^ high;
    const mixedLow = ((high << 14) | (low >>> 18)) ^ low;
    const word = ((mixedHigh << 5) | (mixedLow >>> 27)) >>> 0;
    const rotation = high >>> 27;
    return ((word >>> rotation) | (word << (-rotation & 31))) >>> 0;
  }

  /** Uniform in [0, 1) with 53 bits. */
  uniform(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 0x4000000 + low) / 0x20000000000000;
  }

  /** Uniform integer in [0, bound); unbiased (Lemire 2019, by rejection). */
  below(bound: number): number {
    const threshold = 2 ** 32 % bound;
    for (;;) {
      const draw = this.uint32();
      if (draw >= threshold) return draw % bound;
    }
  }

  /** Standard normal (Box-Muller, one of the pair). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  #advance(): void {
    // state * multiplier mod 2^64, by 16-bit limbs of the low product.
    const low = this.#low;
    const a0 = low & 0xffff;
    const a1 = low >>> 16;
    const b0 = MULTIPLIER_LOW & 0xffff;
    const b1 = MULTIPLIER_LOW >>> 16;
    const middle = a1 * b0 + ((a0 * b0) >>> 16);
    const cross = a0 * b1 + (middle & 0xffff);
    const carry = a1 * b1 + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000);
    const productHigh =
      (carry + Math.imul(this.#high, MULTIPLIER_LOW) + Math.imul(low, MULTIPLIER_HIGH)) >>> 0;
    this.#low = Math.imul(low, MULTIPLIER_LOW) >>> 0;
    this.#high = productHigh;
    this.#add(this.#incrementHigh, this.#incrementLow);
  }

  #add(high: number, low: number): void {
    const sum = this.#low + low;
    this.#low = sum >>> 0;
    this.#high = (this.#high + high + (sum > 0xffffffff ? 1 : 0)) >>> 0;
  }
}
