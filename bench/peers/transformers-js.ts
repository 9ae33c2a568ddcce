/** Prints the single-stream figures of @huggingface/transformers on onnxruntime-node. Usage: node transformers-js.js 8|4 */
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { decodeRate, decodeTokens, installed, promptIds, type SingleStream } from './peer.js';

/** The part of the library that is used here. */
interface Library {
  readonly env: { localModelPath: string; allowRemoteModels: boolean };
  readonly Tensor: new (type: 'int64', data: BigInt64Array, dims: readonly number[]) => object;
  readonly AutoModelForCausalLM: { from_pretrained(directory: string, options: object): Promise<Model> };
}
interface Model {
  generate(options: object): Promise<unknown>;
}

const bits = process.argv[2] === '4' ? 4 : 8;
const entry = installed(
  'npm',
  'node_modules',
  '@huggingface',
  'transformers',
  'dist',
  'transformers.node.mjs',
);
const { env, Tensor, AutoModelForCausalLM } = (await import(pathToFileURL(entry).href)) as Library;
env.allowRemoteModels = false;
env.localModelPath = dirname(installed('models', 'transformers-js'));
const model = await AutoModelForCausalLM.from_pretrained('transformers-js', {
  dtype: bits === 8 ? 'q8' : 'q4',
  device: 'cpu',
  session_options: { intraOpNumThreads: availableParallelism() },
});

/** Milliseconds of each new token, and of the call before them. */
async function generate(promptLength: number, tokens: number): Promise<{ start: number; times: number[] }> {
  const ids = BigInt64Array.from(promptIds(promptLength), BigInt);
  const times: number[] = [];
  // The first call of `put` brings the prompt.
  let sawPrompt = false;
  const streamer = {
    put: () => {
      if (sawPrompt) times.push(performance.now());
      sawPrompt = true;
    },
    end: () => {},
  };
  const start = performance.now();
  await model.generate({
    input_ids: new Tensor('int64', ids, [1, promptLength]),
    attention_mask: new Tensor('int64', new BigInt64Array(promptLength).fill(1n), [1, promptLength]),
    max_new_tokens: tokens,
    min_new_tokens: tokens,
    do_sample: false,
    streamer,
  });
  return { start, times };
}

async function prefill(length: number): Promise<number> {
  const { start, times } = await generate(length, 1);
  return (length * 1000) / ((times[0] ?? Number.NaN) - start);
}

await generate(16, 4);
const figures: SingleStream = {
  decodeAt64: decodeRate((await generate(64, decodeTokens + 1)).times),
  decodeAt1024: decodeRate((await generate(1024, decodeTokens + 1)).times),
  prefill512: await prefill(512),
};
console.log(JSON.stringify(figures));
process.exit(0);
