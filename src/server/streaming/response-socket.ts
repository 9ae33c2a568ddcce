import type { WebSocket } from '@fastify/websocket';
import type { RawData } from 'ws';
import { AppError } from '../../core/errors.js';
import type { Schemas } from '../contract.js';
import type { GenerationContext } from '../generation.js';
import type { ServerParts } from '../parts.js';
import { errorEvent, type NumberedBatches } from '../response-events.js';
import { parseFrame, Wire } from './ws.js';

type Body = Schemas['CreateResponseRequest'];

export type ResponseStart = (body: Body, context: GenerationContext) => Promise<NumberedBatches>;

/** A socket as the official SDK's ResponsesWS drives it: requests of one `stream_id` in order, different ones at once. */
export class ResponseSocket {
  readonly #parts: ServerParts;
  readonly #start: ResponseStart;
  readonly #wire: Wire;
  /** The end of the last request under each stream id. */
  readonly #queues = new Map<string | undefined, Promise<void>>();
  /** What runs or waits, and under which stream id. */
  readonly #requests = new Map<AbortController, string | undefined>();

  constructor(socket: WebSocket, parts: ServerParts, start: ResponseStart) {
    this.#parts = parts;
    this.#start = start;
    this.#wire = new Wire(socket, parts.config.stallSeconds * 1000);
    socket.on('message', (data, isBinary) => this.#receive(data, isBinary));
    socket.on('close', () => {
      for (const request of this.#requests.keys()) request.abort(cancelled());
    });
  }

  #receive(data: RawData, isBinary: boolean): void {
    let frame: unknown;
    try {
      frame = parseFrame(data, isBinary);
      const { type, stream_id, ...fields } = this.#parts.contract.frame('ResponseClientFrame', frame);
      if (type === 'response.create') this.#enqueue(stream_id, fields);
      else for (const [request, id] of this.#requests) if (id === stream_id) request.abort(cancelled());
    } catch (thrown) {
      const id = (frame as { stream_id?: unknown } | undefined)?.stream_id;
      this.#send(errorEvent(thrown), typeof id === 'string' ? id : undefined);
    }
  }

  #enqueue(streamId: string | undefined, fields: Readonly<Record<string, unknown>>): void {
    const most = this.#parts.config.lanesPerSocket;
    if (this.#requests.size >= most)
      throw new AppError('too_many_lanes', `This socket has ${most} requests, as many as one may have`);
    const request = new AbortController();
    this.#requests.set(request, streamId);
    const turn = this.#run(streamId, fields, request.signal)
      .catch((thrown) => this.#send(errorEvent(thrown), streamId))
      .finally(() => {
        this.#requests.delete(request);
        if (this.#queues.get(streamId) === turn) this.#queues.delete(streamId);
      });
    this.#queues.set(streamId, turn);
  }

  async #run(
    streamId: string | undefined,
    fields: Readonly<Record<string, unknown>>,
    signal: AbortSignal,
  ): Promise<void> {
    const receivedAtMs = performance.now();
    await this.#queues.get(streamId);
    signal.throwIfAborted();
    using _entered = this.#parts.drain.enter();
    const body = this.#parts.contract.body('createResponse', { ...fields, stream: true });
    const { metrics } = this.#parts;
    const events = await this.#start(body, { metrics, route: '/v1/responses', receivedAtMs, signal });
    for await (const batch of events) for (const event of batch) await this.#send(event, streamId);
  }

  async #send(event: object, stream_id: string | undefined): Promise<void> {
    await this.#wire.send(JSON.stringify(stream_id === undefined ? event : { ...event, stream_id }));
  }
}

const cancelled = (): AppError => new AppError('request_cancelled', 'The request was cancelled');
