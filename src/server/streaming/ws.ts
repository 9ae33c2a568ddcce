import type { WebSocket } from '@fastify/websocket';
import type { RawData } from 'ws';
import { AppError } from '../../core/errors.js';
import type { HttpOperationId } from '../contract.js';
import type { GenerationContext } from '../generation.js';
import { MOST_JSON_LEVELS, nestsDeeper } from '../json-depth.js';
import type { ServerParts } from '../parts.js';
import { errorBody, toProblem } from '../problem.js';
import type { StreamEvent } from './sse.js';

/** Many generations on one socket. Each is a lane with its own name, error and cancel; a slow reader pauses the lanes of its socket only. */

const HEARTBEAT_MS = 30_000;
/** Bytes that may wait in a socket before its lanes pause. */
const HIGH_WATER_BYTES = 256 * 1024;

/** A socket that waits for its reader and notices when the other side is gone. */
export class Wire {
  readonly #socket: WebSocket;
  readonly #stallMs: number;

  constructor(socket: WebSocket, stallMs: number) {
    this.#socket = socket;
    this.#stallMs = stallMs;
    let alive = true;
    socket.on('pong', () => {
      alive = true;
    });
    const heartbeat = setInterval(() => {
      if (!alive) return socket.terminate();
      alive = false;
      socket.ping();
    }, HEARTBEAT_MS);
    socket.on('close', () => clearInterval(heartbeat));
  }

  /** Resolves at once while the reader keeps up, else when this frame has left; a reader that stalls is cut off. */
  async send(frame: string): Promise<void> {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    if (this.#socket.bufferedAmount < HIGH_WATER_BYTES) return this.#socket.send(frame);
    const stalled = setTimeout(() => this.#socket.terminate(), this.#stallMs);
    await new Promise((resolve) => this.#socket.send(frame, resolve));
    clearTimeout(stalled);
  }
}

/** @throws AppError `invalid_json`. */
export function parseFrame(data: RawData, isBinary: boolean): unknown {
  if (isBinary) throw new AppError('invalid_json', 'Frames are text, not binary');
  const json = String(data);
  if (nestsDeeper(json, MOST_JSON_LEVELS))
    throw new AppError('invalid_json', `The frame nests deeper than ${MOST_JSON_LEVELS} levels`);
  try {
    return JSON.parse(json);
  } catch {
    throw new AppError('invalid_json', 'The frame is not valid JSON');
  }
}

/** Starts a generation of a lane: a body that is still to be checked, and its scope. */
export type LaneStart = (
  body: Readonly<Record<string, unknown>>,
  context: GenerationContext,
) => Promise<AsyncIterable<readonly StreamEvent[]>>;

/** Serves `create` and `cancel` frames on a socket until it closes. */
export class LaneSocket {
  readonly #parts: ServerParts;
  readonly #operation: HttpOperationId;
  readonly #start: LaneStart;
  readonly #wire: Wire;
  readonly #lanes = new Map<string, AbortController>();

  /** @param operation Whose body a `create` frame carries. */
  constructor(socket: WebSocket, parts: ServerParts, operation: HttpOperationId, start: LaneStart) {
    this.#parts = parts;
    this.#operation = operation;
    this.#start = start;
    this.#wire = new Wire(socket, parts.config.stallSeconds * 1000);
    socket.on('message', (data, isBinary) => this.#receive(data, isBinary));
    socket.on('close', () => {
      for (const lane of this.#lanes.values()) lane.abort(cancelled('The socket closed'));
    });
  }

  #receive(data: RawData, isBinary: boolean): void {
    let id: string | null = null;
    try {
      const frame = parseFrame(data, isBinary);
      id = idOf(frame);
      const { type, id: lane, ...body } = this.#parts.contract.frame('LaneClientFrame', frame);
      if (type === 'create') this.#run(lane, body).catch((thrown) => this.#fail(lane, thrown));
      else this.#lanes.get(lane)?.abort(cancelled('The lane was cancelled'));
    } catch (thrown) {
      this.#fail(id, thrown);
    }
  }

  async #run(id: string, body: Readonly<Record<string, unknown>>): Promise<void> {
    refuseLane(id, this.#lanes, this.#parts.config.lanesPerSocket);
    using _entered = this.#parts.drain.enter();
    const lane = new AbortController();
    this.#lanes.set(id, lane);
    const key = JSON.stringify(id);
    try {
      for await (const batch of await this.#start({ ...body, stream: true }, this.#context(lane.signal)))
        for (const { json } of batch) await this.#wire.send(`{"type":"chunk","id":${key},"data":${json}}`);
      this.#lanes.delete(id);
      await this.#wire.send(`{"type":"done","id":${key}}`);
    } catch (thrown) {
      this.#lanes.delete(id);
      if (!lane.signal.aborted) throw thrown;
      await this.#wire.send(`{"type":"done","id":${key},"cancelled":true}`);
    }
  }

  #context(signal: AbortSignal): GenerationContext {
    const { contract, metrics } = this.#parts;
    const { path } = contract.operations.find(({ id }) => id === this.#operation)!;
    return { metrics, route: path, receivedAtMs: performance.now(), signal };
  }

  #fail(id: string | null, thrown: unknown): void {
    this.#wire.send(JSON.stringify({ type: 'error', id, ...errorBody(toProblem(thrown)) }));
  }
}

const cancelled = (why: string): AppError => new AppError('request_cancelled', why);

const idOf = (frame: unknown): string | null => {
  const id = (frame as { id?: unknown } | null)?.id;
  return typeof id === 'string' ? id : null;
};

function refuseLane(id: string, lanes: ReadonlyMap<string, unknown>, most: number): void {
  if (lanes.has(id))
    throw new AppError('invalid_value', `The lane '${id}' is still open on this socket`, { param: 'id' });
  if (lanes.size >= most)
    throw new AppError('too_many_lanes', `This socket has ${most} lanes, as many as one may have`);
}
