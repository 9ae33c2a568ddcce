import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';
import type { AppError } from '../../core/errors.js';
import { errorBody, toProblem } from '../problem.js';

/** One event of a stream, already JSON: SSE and WebSocket put different frames around it. */
export interface StreamEvent {
  /** Name of an SSE event; null for data alone. */
  readonly name: string | null;
  readonly json: string;
}

export interface EventStreamOptions {
  readonly signal: AbortSignal;
  /** A reader that takes nothing for so long is cut off. */
  readonly stallMs: number;
  /** The event that tells of a failure in mid-stream. */
  readonly failure: (error: AppError) => StreamEvent;
  /** What closes the stream, after a failure too. */
  readonly end: string;
}

/** How streams of chunks end: a failure is a chunk with `error` alone, and `[DONE]` comes last in any case. */
export const chunkStreamEnding = {
  failure: (error: AppError): StreamEvent => ({ name: null, json: JSON.stringify(errorBody(error)) }),
  end: 'data: [DONE]\n\n',
} as const satisfies Pick<EventStreamOptions, 'failure' | 'end'>;

const PING_MS = 15_000;

const frame = ({ name, json }: StreamEvent): string =>
  name === null ? `data: ${json}\n\n` : `event: ${name}\ndata: ${json}\n\n`;

/**
 * Writes events as Server-Sent Events and waits for a slow reader before it takes more from the source. A failure of the source becomes
 * an error event; a comment goes out whenever nothing else has for a while, so that proxies keep the connection.
 */
export async function sendEvents(
  reply: FastifyReply,
  batches: AsyncIterable<readonly StreamEvent[]>,
  { signal, stallMs, failure, end }: EventStreamOptions,
): Promise<FastifyReply> {
  reply.hijack();
  const { raw } = reply;
  raw.writeHead(200, {
    ...(reply.getHeaders() as Record<string, string>),
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
    'openai-processing-ms': Math.round(reply.elapsedTime),
  });
  raw.flushHeaders();
  const ping = setInterval(() => {
    if (raw.writableLength === 0) raw.write(': ping\n\n');
  }, PING_MS);
  try {
    for await (const batch of batches) {
      ping.refresh();
      if (batch.length > 0 && !raw.write(batch.map(frame).join(''))) await drained(raw, signal, stallMs);
    }
  } catch (thrown) {
    if (!signal.aborted) {
      const error = toProblem(thrown);
      if (error.kind === 'internal') reply.log.error({ err: thrown }, 'stream failed');
      raw.write(frame(failure(error)));
    }
  } finally {
    clearInterval(ping);
    raw.end(end);
  }
  return reply;
}

/** Resolves when the reader has caught up; one that does not in time is disconnected, which aborts its request. */
async function drained(raw: ServerResponse, signal: AbortSignal, stallMs: number): Promise<void> {
  if (signal.aborted) return;
  const stalled = setTimeout(() => raw.destroy(), stallMs);
  try {
    await once(raw, 'drain', { signal });
  } finally {
    clearTimeout(stalled);
  }
}
