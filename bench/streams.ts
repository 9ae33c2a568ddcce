import WebSocket from 'ws';
import type { RunningServer } from './peers/llama-cpp.js';
import { promptIds } from './peers/peer.js';

/** One streamed completion as its client saw it, in milliseconds of performance.now(). */
export interface StreamTimes {
  readonly start: number;
  readonly firstToken: number;
  readonly end: number;
  readonly tokens: number;
}

export type Transport = 'sse' | 'websocket';

interface Chunk {
  readonly choices: readonly { readonly text?: string }[];
  readonly usage?: { readonly completion_tokens: number } | null;
}

const body = (server: RunningServer, prompt: readonly number[], tokens: number) => ({
  model: server.model,
  prompt,
  max_tokens: tokens,
  temperature: 0,
  ignore_eos: true,
  stream: true,
  stream_options: { include_usage: true },
});

/** Streams one completion over SSE. Throws what the server answered where it is not 200. */
export async function streamSse(
  server: RunningServer,
  prompt: readonly number[],
  tokens: number,
): Promise<StreamTimes> {
  const start = performance.now();
  const response = await fetch(`${server.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${server.key}` },
    body: JSON.stringify(body(server, prompt, tokens)),
  });
  if (!response.ok || response.body === null) throw new Error(`${response.status}: ${await response.text()}`);
  let [firstToken, generated, pending] = [Number.NaN, 0, ''];
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    if (Number.isNaN(firstToken)) firstToken = performance.now();
    const events = (pending + piece).split('\n\n');
    pending = events.pop() ?? '';
    for (const event of events) {
      if (!event.startsWith('data: {')) continue;
      const chunk = JSON.parse(event.slice(6)) as Chunk;
      generated = chunk.usage?.completion_tokens ?? generated;
    }
  }
  return { start, firstToken, end: performance.now(), tokens: generated };
}

/** Streams one completion as a lane of an open socket. */
function streamLane(
  socket: WebSocket,
  server: RunningServer,
  id: string,
  prompt: readonly number[],
  tokens: number,
): Promise<StreamTimes> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    let [firstToken, generated] = [Number.NaN, 0];
    const onMessage = (data: WebSocket.RawData) => {
      const frame = JSON.parse(String(data)) as { type: string; id: string; data?: Chunk; error?: unknown };
      if (frame.id !== id) return;
      if (frame.type === 'error') return reject(new Error(JSON.stringify(frame.error)));
      if (Number.isNaN(firstToken)) firstToken = performance.now();
      generated = frame.data?.usage?.completion_tokens ?? generated;
      if (frame.type !== 'done') return;
      socket.off('message', onMessage);
      resolve({ start, firstToken, end: performance.now(), tokens: generated });
    };
    socket.on('message', onMessage);
    socket.on('error', reject);
    socket.send(JSON.stringify({ type: 'create', id, ...body(server, prompt, tokens) }));
  });
}

async function openSocket(server: RunningServer): Promise<WebSocket> {
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/v1/completions`, {
    headers: { authorization: `Bearer ${server.key}` },
  });
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  // Each lane listens for its own frames.
  socket.setMaxListeners(0);
  return socket;
}

/** Runs `count` streams at once, each with a prompt of its own, and returns all of them. */
export async function streamTogether(
  server: RunningServer,
  transport: Transport,
  count: number,
  promptLength: number,
  tokens: number,
): Promise<StreamTimes[]> {
  const salt = Math.floor(performance.now());
  const prompts = Array.from({ length: count }, (_, i) => promptIds(promptLength, salt + i));
  if (transport === 'sse') return Promise.all(prompts.map((prompt) => streamSse(server, prompt, tokens)));
  const socket = await openSocket(server);
  const lanes = prompts.map((prompt, i) => streamLane(socket, server, `lane-${i}`, prompt, tokens));
  const times = await Promise.all(lanes);
  socket.close();
  return times;
}

/** Tokens of all streams per second, from the first request to the last end. */
export function aggregateRate(streams: readonly StreamTimes[]): number {
  const start = Math.min(...streams.map((stream) => stream.start));
  const end = Math.max(...streams.map((stream) => stream.end));
  return (streams.reduce((sum, stream) => sum + stream.tokens, 0) * 1000) / (end - start);
}

/** Tokens per second of one stream after its first token. */
export const decodeRateOf = (stream: StreamTimes): number =>
  ((stream.tokens - 1) * 1000) / (stream.end - stream.firstToken);
