import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';
import { AppError } from '../core/errors.js';

/** What the server holds open, and when it stops taking more. The queue itself is bounded by each engine. */

/** Counts the work in flight (requests, lanes of sockets) so that a drain can wait for it. */
export class Drain {
  #active = 0;
  #draining = false;
  readonly #idle: (() => void)[] = [];

  get draining(): boolean {
    return this.#draining;
  }

  /** Throws `shutting_down` once a drain has begun. */
  admit(): void {
    if (this.#draining)
      throw new AppError('shutting_down', 'The server is shutting down; send the request to another one', {
        retryAfterSeconds: 1,
      });
  }

  /** Throws as `admit` does. Disposed when the work is done. */
  enter(): Disposable {
    this.admit();
    this.#active++;
    let left = false;
    return {
      [Symbol.dispose]: () => {
        if (left) return;
        left = true;
        this.#active--;
        if (this.#active === 0) for (const wake of this.#idle.splice(0)) wake();
      },
    };
  }

  /** From now on nothing enters; resolves with what is still in flight at the deadline: 0, or what must be cut off. */
  async drain(deadlineMs: number): Promise<number> {
    this.#draining = true;
    if (this.#active === 0) return 0;
    const deadline = new AbortController();
    const idle = new Promise<void>((resolve) => this.#idle.push(resolve));
    const timeout = sleep(deadlineMs, undefined, { signal: deadline.signal }).catch(() => {});
    await Promise.race([idle, timeout]);
    deadline.abort();
    return this.#active;
  }
}

/** Aborts with `request_cancelled` when the client goes away before its answer is complete. */
export function disconnection(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  const cancel = () => {
    if (!reply.raw.writableFinished)
      controller.abort(new AppError('request_cancelled', 'The client closed the connection'));
  };
  if (reply.raw.destroyed) cancel();
  else reply.raw.once('close', cancel);
  return controller.signal;
}
