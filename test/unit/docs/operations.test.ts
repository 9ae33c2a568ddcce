import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readConfig } from '../../../src/server/config.js';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const read = (path: string) => readFileSync(`${root}${path}`, 'utf8');

/** Variables by asking for them: whatever the configuration looks up is noted. */
function variablesOfConfig(): string[] {
  const asked = new Set<string>();
  readConfig(
    new Proxy<Record<string, string>>(
      {},
      {
        get(_, name) {
          asked.add(String(name));
          return undefined;
        },
      },
    ),
  );
  return [...asked].sort();
}

test('docs/operations.md lists the environment variables that the service reads, and no others', () => {
  const documented = [...read('docs/operations.md').matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(documented.sort(), variablesOfConfig());
});

test('documented defaults are those of the configuration', () => {
  const config = readConfig({});
  const defaults: Readonly<Record<string, unknown>> = {
    PORT: config.port,
    HOST: config.host,
    CUDA_DEVICE: config.models.cuda?.deviceId,
    CUDA_ARENA: config.models.cuda?.arenaExtend,
    SLOTS: config.models.engine.slots,
    CONTEXT_LENGTH: config.models.engine.contextLength,
    PREFILL_CHUNK: config.models.engine.prefillChunk,
    MAX_QUEUED_REQUESTS: config.models.engine.maxQueuedRequests,
    MAX_QUEUED_PROMPT_TOKENS: config.models.engine.maxQueuedPromptTokens,
    LANE_BUFFER: config.models.engine.laneBuffer,
    LANES_PER_SOCKET: config.lanesPerSocket,
    BODY_LIMIT_BYTES: config.bodyLimitBytes,
    DRAIN_SECONDS: config.drainSeconds,
    STALL_SECONDS: config.stallSeconds,
    HF_ENDPOINT: config.models.hub.endpoint,
  };
  const text = read('docs/operations.md');
  for (const [name, value] of Object.entries(defaults))
    assert.ok(text.includes(`| \`${name}\` | \`${value}\` |`), name);
});

test('the CUDA provider of the Dockerfile and the docs is of the version of onnxruntime-node', () => {
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> };
  const version = dependencies['onnxruntime-node'];
  assert.match(read('Dockerfile'), new RegExp(`^ARG ONNXRUNTIME_VERSION=${version}$`, 'm'));
  assert.ok(read('docs/operations.md').includes(`onnxruntime-gpu==${version}`));
});
