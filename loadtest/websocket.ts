import { WebSocket } from 'k6/websockets';
import * as scenario from './scenario.ts';

export { setup } from './scenario.ts';

/** Lanes of a WebSocket: each user opens one socket and keeps LANES answers going on it, one after another. */

export const options = scenario.options;

const LANES = Number(__ENV.LANES ?? 2);
const ANSWERS_A_LANE = 4;

interface Frame {
  readonly type: 'chunk' | 'done' | 'error';
  readonly id: string;
  readonly data?: { readonly choices: readonly unknown[]; readonly usage?: scenario.Usage | null };
}

interface Lane {
  readonly askedAt: number;
  firstAt: number | null;
  tokens: number;
}

export default function lanes(): void {
  const socket = new WebSocket(`${scenario.url.replace(/^http/, 'ws')}/v1/completions`, null, {
    headers: { authorization: scenario.headers.authorization },
  });
  const open = new Map<string, Lane>();
  let asked = 0;
  const ask = () => {
    const id = `lane-${asked++}`;
    open.set(id, { askedAt: Date.now(), firstAt: null, tokens: 0 });
    socket.send(
      JSON.stringify({ type: 'create', id, ...scenario.body({ stream_options: { include_usage: true } }) }),
    );
  };
  const end = (id: string, isWhole: boolean) => {
    const lane = open.get(id);
    open.delete(id);
    scenario.failed.add(!isWhole);
    if (isWhole && lane?.firstAt) {
      scenario.tokens.add(lane.tokens);
      scenario.timeToFirstToken.add(lane.firstAt - lane.askedAt);
      if (lane.tokens > 1) scenario.interToken.add((Date.now() - lane.firstAt) / (lane.tokens - 1));
    }
    if (asked < LANES * ANSWERS_A_LANE) ask();
    else if (open.size === 0) socket.close();
  };
  socket.onopen = () => {
    for (let lane = 0; lane < LANES; lane++) ask();
  };
  socket.onmessage = (event) => {
    const frame = JSON.parse(String(event?.data)) as Frame;
    const lane = open.get(frame.id);
    if (frame.type !== 'chunk') return end(frame.id, frame.type === 'done');
    if (lane === undefined) return;
    lane.firstAt ??= Date.now();
    lane.tokens = frame.data?.usage?.completion_tokens ?? lane.tokens;
  };
  socket.onerror = () => {
    scenario.failed.add(true);
    socket.close();
  };
}
