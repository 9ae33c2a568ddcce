import { setMaxListeners } from 'node:events';
import type { AppError } from '../../core/errors.js';
import type { GenerateRequest, Generation, TokenEvent } from './engine.js';

/** What a lane tells its engine. */
export interface LaneControls {
  credit(tokens: number): void;
  finish(sequence: number): void;
  cancel(): void;
}

interface Waiting {
  resolve(result: IteratorResult<TokenEvent>): void;
  reject(error: AppError): void;
}

/**
 * The reader's end of a lane. What the engine sent and the reader has not taken is at most the lane's buffer, since the engine stops at
 * its credit; credit goes back in halves of the buffer, so that reading costs a message every few dozen tokens.
 */
export class RemoteGeneration implements Generation, AsyncIterator<TokenEvent> {
  readonly request: GenerateRequest;
  /** The prompt's event came. */
  prefilled = false;
  /** Sequences whose finish event came. */
  finished = 0;
  readonly #controls: LaneControls;
  readonly #signal: AbortSignal;
  readonly #onAbort: () => void;
  readonly #creditStep: number;
  #queue: TokenEvent[] = [];
  #head = 0;
  #taken = 0;
  #waiting: Waiting | null = null;
  #ended = false;
  #error: AppError | null = null;

  constructor(request: GenerateRequest, laneBuffer: number, signal: AbortSignal, controls: LaneControls) {
    this.request = request;
    this.#controls = controls;
    this.#creditStep = Math.max(1, Math.floor((laneBuffer * request.sequences) / 2));
    this.#signal = signal;
    this.#onAbort = () => controls.cancel();
    // One signal may end any number of requests: all prompts of a body, all lanes of a socket.
    setMaxListeners(0, signal);
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  finish(sequence: number): void {
    if (!this.#ended) this.#controls.finish(sequence);
  }

  /** An event from the engine. */
  push(event: TokenEvent): void {
    if (event.type === 'prompt') this.prefilled = true;
    else if (event.type === 'finish') this.finished++;
    const waiting = this.#waiting;
    if (waiting === null) {
      this.#queue.push(event);
      return;
    }
    this.#waiting = null;
    this.#count(event);
    waiting.resolve({ value: event, done: false });
  }

  /** The lane is over: after what is queued, the reader gets the error or the end. */
  end(error: AppError | null): void {
    this.#ended = true;
    this.#error = error;
    this.#signal.removeEventListener('abort', this.#onAbort);
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting === null) return;
    if (error === null) waiting.resolve({ value: undefined, done: true });
    else waiting.reject(error);
  }

  [Symbol.asyncIterator](): AsyncIterator<TokenEvent> {
    return this;
  }

  async next(): Promise<IteratorResult<TokenEvent>> {
    const event = this.#queue[this.#head];
    if (event !== undefined) {
      this.#advance();
      this.#count(event);
      return { value: event, done: false };
    }
    if (this.#error !== null) throw this.#error;
    if (this.#ended) return { value: undefined, done: true };
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** The reader leaves early. */
  async return(): Promise<IteratorResult<TokenEvent>> {
    if (!this.#ended) this.#controls.cancel();
    return { value: undefined, done: true };
  }

  #advance(): void {
    this.#head++;
    if (this.#head < this.#queue.length) return;
    this.#queue = [];
    this.#head = 0;
  }

  #count(event: TokenEvent): void {
    if (event.type !== 'token' || this.#ended) return;
    this.#taken++;
    if (this.#taken < this.#creditStep) return;
    this.#controls.credit(this.#taken);
    this.#taken = 0;
  }
}
