import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { EngineStats } from '../models/engine/engine.js';
import type { LoadedModel, ModelPool } from '../models/model-pool.js';
import type { CompletionEvent } from '../models/text-model.js';

/** Prometheus metrics; docs/metrics.md says what each means, and a test compares the two. */

const milliseconds = (...values: readonly number[]) => values.map((value) => value / 1000);

/** Metrics that are an engine's own numbers, read when they are scraped. */
const ofEngine = {
  requests_running: {
    type: Gauge,
    help: 'Requests that prefill or decode',
    of: (s: EngineStats) => s.requestsRunning,
  },
  requests_waiting: { type: Gauge, help: 'Requests in the queue', of: (s: EngineStats) => s.requestsWaiting },
  prompt_tokens_waiting: {
    type: Gauge,
    help: 'Prompt tokens in the queue',
    of: (s: EngineStats) => s.waitingPromptTokens,
  },
  slots: { type: Gauge, help: 'Sequences that can decode at once', of: (s: EngineStats) => s.slots },
  slots_busy: { type: Gauge, help: 'Slots that hold a sequence', of: (s: EngineStats) => s.slotsBusy },
  prompt_tokens_total: {
    type: Counter,
    help: 'Prompt tokens taken in',
    of: (s: EngineStats) => s.promptTokens,
  },
  generation_tokens_total: {
    type: Counter,
    help: 'Tokens generated',
    of: (s: EngineStats) => s.generationTokens,
  },
  prefix_cache_hit_tokens_total: {
    type: Counter,
    help: 'Prompt tokens that the prefix cache saved',
    of: (s: EngineStats) => s.prefixCacheHitTokens,
  },
  engine_steps_total: { type: Counter, help: 'Steps of the engine', of: (s: EngineStats) => s.steps },
} as const;

export class Metrics {
  readonly registry = new Registry();
  readonly #timeToFirstToken: Histogram<'model' | 'route'>;
  readonly #interTokenLatency: Histogram<'model' | 'route'>;
  readonly #requestDuration: Histogram<'route' | 'status'>;

  constructor(pool: Pick<ModelPool, 'loaded'>) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.#timeToFirstToken = new Histogram({
      name: 'instructd_time_to_first_token_seconds',
      help: 'From a request to the first token of its answer',
      labelNames: ['model', 'route'],
      buckets: milliseconds(5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_240, 20_480, 40_960),
      registers,
    });
    this.#interTokenLatency = new Histogram({
      name: 'instructd_inter_token_latency_seconds',
      help: 'Between two tokens of one choice',
      labelNames: ['model', 'route'],
      buckets: milliseconds(1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 2048),
      registers,
    });
    this.#requestDuration = new Histogram({
      name: 'instructd_request_duration_seconds',
      help: 'From a request to the end of its answer',
      labelNames: ['route', 'status'],
      buckets: milliseconds(
        2,
        5,
        10,
        25,
        50,
        100,
        250,
        500,
        1000,
        2500,
        5000,
        10_000,
        30_000,
        60_000,
        120_000,
      ),
      registers,
    });
    // A scrape before the first request finds every name at 0, so that rates and alerts need no special case.
    for (const histogram of [this.#timeToFirstToken, this.#interTokenLatency, this.#requestDuration])
      histogram.zero({});
    this.#registerEngineMetrics(pool);
  }

  answered(route: string, status: number, seconds: number): void {
    this.#requestDuration.observe({ route, status }, seconds);
  }

  /** Passes the events of one request on, timing them. Each batch holds the events that came together. */
  async *timed(
    labels: { readonly model: string; readonly route: string },
    receivedAtMs: number,
    batches: AsyncIterable<readonly CompletionEvent[]>,
  ): AsyncGenerator<readonly CompletionEvent[]> {
    const last = new Map<number, number>();
    for await (const batch of batches) {
      const now = performance.now();
      for (const event of batch) {
        if (event.type !== 'delta') continue;
        const before = last.get(event.choice);
        if (before !== undefined) {
          const each = (now - before) / 1000 / Math.max(1, event.tokens.length);
          for (const _ of event.tokens) this.#interTokenLatency.observe(labels, each);
        } else if (last.size === 0) this.#timeToFirstToken.observe(labels, (now - receivedAtMs) / 1000);
        last.set(event.choice, now);
      }
      yield batch;
    }
  }

  #registerEngineMetrics(pool: Pick<ModelPool, 'loaded'>): void {
    // One question to each engine a scrape, whatever the number of metrics.
    let reading: Promise<readonly LoadedModel[]> | null = null;
    const loaded = () => {
      reading ??= pool.loaded().finally(() => {
        reading = null;
      });
      return reading;
    };
    for (const [name, { type: Metric, help, of }] of Object.entries(ofEngine))
      new Metric({
        name: `instructd_${name}`,
        help,
        labelNames: ['model'],
        registers: [this.registry],
        async collect() {
          this.reset();
          const engines = (await loaded()).flatMap(({ id, stats }) =>
            stats === null ? [] : [{ id, stats }],
          );
          if (engines.length === 0) this.inc({}, 0);
          for (const { id, stats } of engines) this.inc({ model: id }, of(stats));
        },
      });
  }
}
