import { AppError } from '../../core/errors.js';
import type { Reward, RewardSample } from './reward-source.js';

/** How the endpoint is spoken to. */
export type RewardProtocol =
  /** OpenRLHF's remote reward model: POST {query: texts, prompts} -> {rewards}. */
  | { readonly type: 'get_reward' }
  /** This service's own: POST {model, input: [{prompt, completions}]} -> {data: [{scores}]}. */
  | { readonly type: 'rewards'; readonly model: string };

export interface HttpRewardOptions {
  readonly url: string;
  readonly protocol: RewardProtocol;
  /** Bearer token; null sends none. */
  readonly apiKey: string | null;
  /** Samples a request, at least 1. */
  readonly batchSize: number;
  /** Of one request, with its wait for the answer. */
  readonly timeoutSeconds: number;
  /** Further tries after a refused connection, a timeout, 429 or 5xx, each after twice the wait. */
  readonly retries: number;
}

export const httpRewardDefaults = { apiKey: null, batchSize: 64, timeoutSeconds: 60, retries: 3 } as const;

const FIRST_WAIT_MS = 500;

interface Dialect {
  request(samples: readonly RewardSample[]): unknown;
  /** The scores of an answer; undefined where it has another shape. */
  scores(answer: unknown): unknown;
}

const field = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;

const dialectOf = (protocol: RewardProtocol): Dialect => {
  if (protocol.type === 'get_reward') {
    return {
      request: (samples) => ({
        query: samples.map(({ promptText, responseText }) => promptText + responseText),
        prompts: samples.map(({ promptText }) => promptText),
      }),
      scores: (answer) => field(answer, 'rewards'),
    };
  }
  return {
    request: (samples) => ({
      model: protocol.model,
      input: samples.map(({ promptText, responseText }) => ({
        prompt: promptText,
        completions: [responseText],
      })),
    }),
    scores: (answer) => {
      const data = field(answer, 'data');
      return Array.isArray(data) ? data.flatMap((entry) => field(entry, 'scores')) : undefined;
    },
  };
};

/** A reward behind an HTTP endpoint, asked in batches, one after the other. */
export class HttpReward implements Reward {
  readonly #options: HttpRewardOptions;
  readonly #dialect: Dialect;

  constructor(options: HttpRewardOptions) {
    this.#options = options;
    this.#dialect = dialectOf(options.protocol);
  }

  async score(samples: readonly RewardSample[], signal: AbortSignal): Promise<readonly number[]> {
    const scores: number[] = [];
    for (let from = 0; from < samples.length; from += this.#options.batchSize) {
      const batch = samples.slice(from, from + this.#options.batchSize);
      scores.push(...(await this.#scoreBatch(batch, signal)));
    }
    return scores;
  }

  async #scoreBatch(batch: readonly RewardSample[], signal: AbortSignal): Promise<number[]> {
    const answer = await this.#ask(JSON.stringify(this.#dialect.request(batch)), signal);
    const scores = this.#dialect.scores(answer);
    if (!Array.isArray(scores) || scores.length !== batch.length || !scores.every(Number.isFinite))
      throw this.#failure(
        `answered a ${batch.length}-sample request with something else than as many numbers`,
      );
    return scores as number[];
  }

  async #ask(body: string, signal: AbortSignal): Promise<unknown> {
    for (let attempt = 0; ; attempt++) {
      const outcome = await this.#try(body, signal);
      if (outcome.type === 'answer') return outcome.json;
      if (signal.aborted) throw new AppError('request_cancelled', 'Scoring was cancelled.');
      if (!outcome.mayRetry || attempt === this.#options.retries) throw this.#failure(outcome.reason);
      await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** attempt));
    }
  }

  async #try(body: string, signal: AbortSignal): Promise<Outcome> {
    const { url, apiKey, timeoutSeconds } = this.#options;
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(apiKey !== null && { authorization: `Bearer ${apiKey}` }),
        },
        body,
        signal: AbortSignal.any([signal, AbortSignal.timeout(1000 * timeoutSeconds)]),
      });
      if (response.ok) return { type: 'answer', json: await response.json() };
      const text = (await response.text()).slice(0, 200);
      const mayRetry = response.status === 429 || response.status >= 500;
      return { type: 'refusal', reason: `answered ${response.status}: ${text}`, mayRetry };
    } catch (thrown) {
      return { type: 'refusal', reason: `did not answer: ${reasonOf(thrown)}`, mayRetry: true };
    }
  }

  #failure(reason: string): AppError {
    return new AppError('reward_failed', `The reward endpoint ${this.#options.url} ${reason}.`, {
      param: 'reward_url',
    });
  }
}

type Outcome =
  | { readonly type: 'answer'; readonly json: unknown }
  | { readonly type: 'refusal'; readonly reason: string; readonly mayRetry: boolean };

/** fetch hides what went wrong in the cause. */
function reasonOf(thrown: unknown): string {
  const { cause, message } = thrown as Error;
  return cause instanceof Error ? cause.message : message;
}
