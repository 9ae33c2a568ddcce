import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { AppError, deserializeError, type SerializedError } from '../../core/errors.js';

/** How a worker opens: ready with what it has to tell, or unable to start. */
export type Opening<Ready> =
  | { readonly type: 'ready'; readonly ready: Ready }
  | { readonly type: 'refused'; readonly error: SerializedError };

/** Seconds that a worker has to end its step and free its memory before it is ended from outside. */
const STOP_SECONDS = 30;

/**
 * A worker thread that is watched: it opens with one message, and when it dies its owner hears of it once, with the reason, so that
 * nobody waits for an answer that cannot come.
 */
export class SupervisedWorker<ToWorker, FromWorker, Ready> {
  readonly ready: Ready;
  readonly #worker: Worker;
  readonly #name: string;
  #failure: AppError | null = null;
  #stopping = false;

  private constructor(worker: Worker, name: string, ready: Ready) {
    this.#worker = worker;
    this.#name = name;
    this.ready = ready;
  }

  /** @param name What the worker is, for messages. Throws what kept the worker from starting. */
  static async open<ToWorker, FromWorker, Ready>(
    worker: Worker,
    name: string,
  ): Promise<SupervisedWorker<ToWorker, FromWorker, Ready>> {
    const opening = await Promise.race([firstMessage<Ready>(worker), earlyExit(worker, name)]);
    if (opening.type === 'refused') {
      await worker.terminate();
      throw deserializeError(opening.error);
    }
    return new SupervisedWorker(worker, name, opening.ready);
  }

  get failure(): AppError | null {
    return this.#failure;
  }

  /** @param onFailure Called once, when the worker ends without having been told to. */
  listen(onMessage: (message: FromWorker) => void, onFailure: (failure: AppError) => void): void {
    let cause: unknown;
    this.#worker.on('message', onMessage);
    this.#worker.on('messageerror', (error) => {
      cause = error;
    });
    this.#worker.on('error', (error) => {
      cause = error;
    });
    this.#worker.on('exit', (code) => {
      if (this.#stopping) return;
      this.#failure = died(this.#name, code, cause);
      onFailure(this.#failure);
    });
  }

  post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  /** Asks the worker to end with this message and waits until its thread is gone. */
  async stop(message: ToWorker): Promise<void> {
    if (this.#failure !== null || this.#stopping) return;
    this.#stopping = true;
    this.#failure = new AppError('shutting_down', `${this.#name} is shutting down.`);
    const gone = once(this.#worker, 'exit');
    this.post(message);
    const timer = setTimeout(() => this.#worker.terminate(), STOP_SECONDS * 1000);
    await gone;
    clearTimeout(timer);
  }
}

async function firstMessage<Ready>(worker: Worker): Promise<Opening<Ready>> {
  const [message] = (await once(worker, 'message')) as [Opening<Ready>];
  return message;
}

async function earlyExit(worker: Worker, name: string): Promise<never> {
  const [code] = (await once(worker, 'exit')) as [number];
  throw died(name, code, undefined);
}

function died(name: string, code: number, cause: unknown): AppError {
  const reason = cause instanceof Error ? cause.message : `its thread ended with exit code ${code}`;
  return new AppError('engine_failed', `${name} stopped working: ${reason}. Load the model again.`, {
    cause,
  });
}
