/** Prints the single-stream figures of node-llama-cpp with its prebuilt CPU binary. Usage: node node-llama-cpp.js 8|4 */
import { availableParallelism } from 'node:os';
import { pathToFileURL } from 'node:url';
import { decodeRate, decodeTokens, installed, promptIds, type SingleStream } from './peer.js';

/** The part of the library that is used here. */
interface Library {
  getLlama(options: { gpu: false; build: 'never'; maxThreads: number; logLevel: 'error' }): Promise<{
    loadModel(options: { modelPath: string }): Promise<Model>;
    dispose(): Promise<void>;
  }>;
}
interface Model {
  createContext(options: {
    contextSize: number;
    batchSize: number;
    threads: number;
  }): Promise<{ getSequence(): Sequence }>;
}
interface Sequence {
  evaluate(
    tokens: readonly number[],
    options: { temperature: 0; yieldEogToken: true },
  ): AsyncIterable<number>;
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void>;
  clearHistory(): Promise<void>;
}

const bits = process.argv[2] === '4' ? 4 : 8;
const threads = availableParallelism();
const entry = installed('npm', 'node_modules', 'node-llama-cpp', 'dist', 'index.js');
const { getLlama } = (await import(pathToFileURL(entry).href)) as Library;
const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads, logLevel: 'error' });
const model = await llama.loadModel({ modelPath: installed('models', `Q${bits}_0.gguf`) });
const context = await model.createContext({ contextSize: 2048, batchSize: 512, threads });
const sequence = context.getSequence();

async function decodeAt(depth: number): Promise<number> {
  await sequence.clearHistory();
  const times: number[] = [];
  for await (const _ of sequence.evaluate(promptIds(depth), { temperature: 0, yieldEogToken: true })) {
    times.push(performance.now());
    if (times.length > decodeTokens) break;
  }
  return decodeRate(times);
}

async function prefill(length: number): Promise<number> {
  await sequence.clearHistory();
  const start = performance.now();
  await sequence.evaluateWithoutGeneratingNewTokens(promptIds(length));
  return (length * 1000) / (performance.now() - start);
}

await decodeAt(16);
const figures: SingleStream = {
  decodeAt64: await decodeAt(64),
  decodeAt1024: await decodeAt(1024),
  prefill512: await prefill(512),
};
console.log(JSON.stringify(figures));
process.exit(0);
