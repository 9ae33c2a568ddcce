import { openRuntime } from '../runtime/open-runtime.js';
import type { Runtime, RuntimeOptions, SessionOptions } from '../runtime/session.js';
import type { WeightForm } from '../transformer/decoder.js';
import { type LoadedDecoder, loadDecoder, readModelConfig } from '../transformer/load-decoder.js';
import type { CheckpointSource } from './engine-messages.js';

/** A checkpoint whose graph is open in a runtime of its own. */
export interface OpenCheckpoint {
  readonly runtime: Runtime;
  readonly decoder: LoadedDecoder;
  readonly contextLength: number;
  /** Names the weights as they run, quantised or not. */
  readonly version: string;
}

/**
 * @param contextLength Cut to what the model was made for.
 * Blocks for as long as reading and quantising takes: for worker threads. Throws what `loadDecoder` and `openRuntime` throw.
 */
export function openCheckpoint(
  source: CheckpointSource,
  options: RuntimeOptions,
  contextLength: number,
  session: Pick<SessionOptions, 'cudaGraphs'> = {},
): OpenCheckpoint {
  const { directory, cacheDirectory, contentHash, quantization } = source;
  const runtime = openRuntime(options);
  try {
    const positions = Math.min(contextLength, readModelConfig(directory).contextLength);
    const decoder = loadDecoder(runtime, directory, {
      form: formOf(quantization, runtime),
      maxPositions: positions,
      cacheDirectory,
      contentHash,
      // Threads that wait between two nodes of a step by sleeping would double its time.
      session: { ...session, spin: true },
    });
    return { runtime, decoder, contextLength: positions, version: `${contentHash}:${decoder.graph.form}` };
  } catch (error) {
    runtime[Symbol.dispose]();
    throw error;
  }
}

function formOf(quantization: CheckpointSource['quantization'], runtime: Runtime): WeightForm {
  if (quantization !== 'none') return quantization;
  return runtime.provider === 'cuda' ? 'float16' : 'float32';
}
