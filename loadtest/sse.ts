import { check } from 'k6';
import http from 'k6/http';
import * as scenario from './scenario.ts';

export { setup } from './scenario.ts';

/**
 * Streamed answers: POST /v1/completions with stream. k6 hands a response over when it has ended, and its first byte is the headers',
 * which go out before the first token. So each round times an answer of one token, and takes that off the long answer's time.
 */

export const options = scenario.options;

interface Chunk {
  readonly usage?: scenario.Usage | null;
}

const PREFIX = 'data: ';

interface Answer {
  readonly durationMs: number;
  readonly tokens: number;
}

/** null where the answer was not whole. */
function ask(extra: object): Answer | null {
  const body = scenario.body({ stream: true, stream_options: { include_usage: true }, ...extra });
  const response = http.post(`${scenario.url}/v1/completions`, JSON.stringify(body), {
    headers: scenario.headers,
  });
  const events = String(response.body ?? '')
    .split('\n\n')
    .filter((event) => event.startsWith(PREFIX))
    .map((event) => event.slice(PREFIX.length));
  const isWhole = check(response, {
    'answered 200': ({ status }) => status === 200,
    'ends with [DONE]': () => events.at(-1) === '[DONE]',
  });
  scenario.failed.add(!isWhole);
  if (!isWhole) return null;
  const last = JSON.parse(events.at(-2) ?? '{}') as Chunk;
  const tokens = last.usage?.completion_tokens ?? 0;
  scenario.tokens.add(tokens);
  return { durationMs: response.timings.duration, tokens };
}

export default function stream(): void {
  const first = ask({ max_tokens: 1, min_tokens: 1 });
  const whole = ask({});
  if (first === null || whole === null) return;
  scenario.timeToFirstToken.add(first.durationMs);
  if (whole.tokens > 1) scenario.interToken.add((whole.durationMs - first.durationMs) / (whole.tokens - 1));
}
