import exec from 'k6/execution';
import http from 'k6/http';
import { Counter, Rate, Trend } from 'k6/metrics';

/** What the three load tests share: where the service is, what is asked, what is measured. */

export const url = (__ENV.URL ?? 'http://127.0.0.1:8080').replace(/\/+$/, '');
export const headers = {
  authorization: `Bearer ${__ENV.KEY ?? ''}`,
  'content-type': 'application/json',
};

const maxTokens = Number(__ENV.MAX_TOKENS ?? 64);
const users = Number(__ENV.USERS ?? 16);

/** Milliseconds to the first token, as the client sees it. */
export const timeToFirstToken = new Trend('time_to_first_token', true);
/** Milliseconds between two tokens of one answer: the answer's mean. */
export const interToken = new Trend('inter_token', true);
export const tokens = new Counter('tokens');
/** Answers that are not 200, not whole, or not of the contract's shape. */
export const failed = new Rate('failed');

/** Thresholds are for a 135M model in int8 on two cores; give your own by environment. */
const limits = {
  firstToken: Number(__ENV.TTFT_P95_MS ?? 4000),
  interToken: Number(__ENV.INTER_TOKEN_P95_MS ?? 250),
  tokensPerSecond: Number(__ENV.TOKENS_PER_SECOND ?? 50),
};

export const options = {
  scenarios: {
    completions: {
      executor: 'constant-vus',
      vus: users,
      duration: __ENV.DURATION ?? '30s',
      gracefulStop: '30s',
    },
  },
  thresholds: {
    failed: ['rate<0.01'],
    tokens: [`rate>${limits.tokensPerSecond}`],
    time_to_first_token: [`p(95)<${limits.firstToken}`],
    inter_token: [`p(95)<${limits.interToken}`],
  },
  summaryTrendStats: ['min', 'med', 'p(95)', 'p(99)', 'max'],
};

/** A prompt of its own for each request, so that the prefix cache serves the beginning only. */
export const body = (extra: object = {}) => ({
  model: __ENV.MODEL ?? 'smollm2',
  prompt: `User ${exec.vu.idInTest}, story ${exec.scenario.iterationInTest}: once upon a time, in a village by the sea,`,
  max_tokens: maxTokens,
  min_tokens: maxTokens,
  temperature: 0.8,
  seed: exec.scenario.iterationInTest,
  ...extra,
});

export interface Usage {
  readonly completion_tokens: number;
}

/** Loads the model before the clock starts. */
export function setup(): void {
  const ask = { model: __ENV.MODEL ?? 'smollm2', prompt: 'Hello', max_tokens: 1 };
  const { status, body: answer } = http.post(`${url}/v1/completions`, JSON.stringify(ask), {
    headers,
    timeout: '120s',
  });
  if (status !== 200) exec.test.abort(`${url} answered ${status}: ${answer}`);
}
