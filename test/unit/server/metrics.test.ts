import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EngineStats } from '../../../src/models/engine/engine.js';
import type { LoadedModel } from '../../../src/models/model-pool.js';
import { Metrics } from '../../../src/server/metrics.js';

const stats: EngineStats = {
  requestsRunning: 2,
  requestsWaiting: 3,
  slotsBusy: 4,
  slots: 16,
  promptTokens: 100,
  generationTokens: 50,
  prefixCacheHitTokens: 7,
  waitingPromptTokens: 9,
  steps: 11,
};

const lines = async (loaded: readonly LoadedModel[]): Promise<readonly string[]> => {
  const text = await new Metrics({ loaded: async () => loaded }).registry.metrics();
  return text.split('\n').filter((line) => line.startsWith('instructd_') && !line.includes('_bucket'));
};

const ofEngines = [
  'requests_running',
  'requests_waiting',
  'slots_busy',
  'prompt_tokens_total',
  'generation_tokens_total',
  'prefix_cache_hit_tokens_total',
];
const histograms = ['time_to_first_token_seconds', 'inter_token_latency_seconds', 'request_duration_seconds'];

test('without a model and before a request every metric is there as 0', async () => {
  const scraped = await lines([]);
  for (const name of [...ofEngines, ...histograms.map((histogram) => `${histogram}_count`)])
    assert.ok(scraped.includes(`instructd_${name} 0`), `${name} in\n${scraped.join('\n')}`);
});

test("a loaded model's numbers stand under its name, and nothing without a name beside them", async () => {
  const scraped = await lines([
    { id: 'policy', kind: 'language', stats },
    { id: 'judge', kind: 'reward', stats: null },
  ]);
  assert.ok(scraped.includes('instructd_slots_busy{model="policy"} 4'));
  assert.ok(scraped.includes('instructd_generation_tokens_total{model="policy"} 50'));
  assert.deepEqual(
    scraped.filter((line) => ofEngines.some((name) => line.startsWith(`instructd_${name} `))),
    [],
  );
});
