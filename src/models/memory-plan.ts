import { totalmem } from 'node:os';
import type { EngineOptions } from './engine/engine.js';
import type { ModelRecord } from './registry.js';
import type { Provider } from './runtime/session.js';
import { kvBytesPerPosition, type WeightForm } from './transformer/decoder.js';
import { readModelConfig } from './transformer/load-decoder.js';

/** How much memory a model will take, known before it is loaded. */
export interface MemoryPlan {
  readonly weightBytes: number;
  readonly kvBytes: number;
}

/** Blocks of 32 carry a float32 scale: 1/8 byte a weight on top. */
const bytesPerWeight: Readonly<Record<WeightForm, number>> = {
  float32: 4,
  float16: 2,
  int8: 1 + 1 / 8,
  int4: 1 / 2 + 1 / 8,
};

/** How a model's weights are held on a provider. */
export const weightFormOf = (quantization: ModelRecord['quantization'], provider: Provider): WeightForm => {
  if (quantization !== 'none') return quantization;
  return provider === 'cuda' ? 'float16' : 'float32';
};

/** An estimate from the record, config.json and the engine's limits. */
export function planMemory(record: ModelRecord, engine: EngineOptions, provider: Provider): MemoryPlan {
  const config = readModelConfig(record.directory);
  const perPosition = kvBytesPerPosition({
    layers: config.layers,
    heads: config.keyValueHeads,
    headDim: config.headDim,
    type: provider === 'cuda' ? 'float16' : 'float32',
  });
  return {
    weightBytes: record.parameters * bytesPerWeight[weightFormOf(record.quantization, provider)],
    kvBytes: perPosition * engine.slots * Math.min(engine.contextLength, config.contextLength),
  };
}

/** Left to the process itself, to graphs' intermediate results and to the machine. */
const SHARE_FOR_MODELS = 0.8;

/** The container's limit, or the machine's memory, less what is not for models. */
export function defaultMemoryBudget(): number {
  const limit = process.constrainedMemory();
  const bounded = limit > 0 && limit < totalmem() ? limit : totalmem();
  return Math.floor(bounded * SHARE_FOR_MODELS);
}
