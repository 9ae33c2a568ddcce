import { AppError } from '../../core/errors.js';
import { RateMeter } from './rate-meter.js';

export interface AdmissionLimits {
  /** Sequences that run at once. */
  readonly running: number;
  /** Sequences that may wait beside them. */
  readonly waiting: number;
  /** Tokens that may wait for their first run. One request alone may exceed it. */
  readonly waitingTokens: number;
}

const MEMORY_SECONDS = 20;
const LONGEST_RETRY_SECONDS = 60;

/**
 * The bounded queue in front of an engine: it counts what was let in and has not left, so that a refusal costs no trip to the worker
 * and a flood never piles up in a message port. Refusals say when to come back, by the rates of the last seconds.
 */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #nowSeconds: () => number;
  readonly #sequencesDone = new RateMeter(MEMORY_SECONDS);
  readonly #tokensDone = new RateMeter(MEMORY_SECONDS);
  #sequences = 0;
  #waitingTokens = 0;

  constructor(limits: AdmissionLimits, nowSeconds: () => number) {
    this.#limits = limits;
    this.#nowSeconds = nowSeconds;
  }

  /** Lets a request in, to be told of its end by `runTokens` and `leave`. Throws `queue_full`. */
  enter(sequences: number, tokens: number): void {
    const { running, waiting, waitingTokens } = this.#limits;
    const tooMany = this.#sequences + sequences - running - waiting;
    if (tooMany > 0 && this.#sequences > 0) {
      throw this.#refusal(
        `${this.#sequences} sequences are running or waiting`,
        tooMany,
        this.#sequencesDone,
      );
    }
    const tooLong = this.#waitingTokens + tokens - waitingTokens;
    if (tooLong > 0 && this.#waitingTokens > 0) {
      throw this.#refusal(`${this.#waitingTokens} prompt tokens are waiting`, tooLong, this.#tokensDone);
    }
    this.#sequences += sequences;
    this.#waitingTokens += tokens;
  }

  /** Tokens went through the model (`done`), or left with their request before they could (`dropped`). */
  runTokens(tokens: number, outcome: 'done' | 'dropped'): void {
    this.#waitingTokens -= tokens;
    if (outcome === 'done') this.#tokensDone.add(tokens, this.#nowSeconds());
  }

  /** Sequences finished, in whatever way. */
  leave(sequences: number): void {
    this.#sequences -= sequences;
    this.#sequencesDone.add(sequences, this.#nowSeconds());
  }

  #refusal(what: string, excess: number, rate: RateMeter): AppError {
    const perSecond = rate.perSecond(this.#nowSeconds());
    const seconds = perSecond === 0 ? 1 : Math.ceil(excess / perSecond);
    const retryAfterSeconds = Math.min(LONGEST_RETRY_SECONDS, Math.max(1, seconds));
    return new AppError(
      'queue_full',
      `The model is busy: ${what}, which is its limit. Try again in ${retryAfterSeconds} s.`,
      { retryAfterSeconds },
    );
  }
}
