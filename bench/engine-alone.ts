/**
 * Prints the tokens per second of the engine without a server: 16 streams through src/models, in a process of its own.
 *   node engine-alone.js DATA_DIR MODEL STREAMS PROMPT_LENGTH TOKENS
 */

import { availableParallelism } from 'node:os';
import { tokenId } from '../src/core/units.js';
import { greedySampling } from '../src/models/engine/sampler.js';
import { openModelPool } from '../src/models/file-model-pool.js';
import { promptIds } from './peers/peer.js';

const [directory = '', model = '', ...numbers] = process.argv.slice(2);
const [streams = 16, promptLength = 16, tokens = 64] = numbers.map(Number);
await using pool = await openModelPool({
  directory,
  provider: 'cpu',
  threads: availableParallelism(),
  preload: [model],
  hub: { endpoint: 'https://huggingface.co' },
  engine: {
    slots: streams,
    contextLength: 1024,
    prefillChunk: 128,
    maxQueuedRequests: 512,
    maxQueuedPromptTokens: 2 ** 18,
    laneBuffer: 64,
  },
});
const text = await pool.text(model);

async function complete(salt: number, maxTokens: number): Promise<number> {
  const events = await text.complete(
    {
      prompt: promptIds(promptLength, salt).map(tokenId),
      maxTokens,
      sampling: greedySampling,
      n: 1,
      bestOf: 1,
      stop: [],
      includeStop: false,
      ignoreEndOfText: true,
      logprobs: null,
      echo: false,
    },
    new AbortController().signal,
  );
  let generated = 0;
  for await (const event of events) if (event.type === 'finish') generated += event.completionTokens;
  return generated;
}

await complete(0, 4);
const start = performance.now();
const counts = await Promise.all(Array.from({ length: streams }, (_, i) => complete(i + 1, tokens)));
const rate = (counts.reduce((sum, count) => sum + count, 0) * 1000) / (performance.now() - start);
console.log(JSON.stringify({ rate }));
process.exit(0);
