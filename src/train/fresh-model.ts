import { Rng } from '../core/rng.js';
import { SafetensorsWriter } from '../models/checkpoint/safetensors-writer.js';
import type { ModelConfig } from '../models/transformer/model-config.js';
import { layoutOf } from './model-weights.js';

/** Standard deviation of a new matrix (Radford et al. 2019). */
const DEVIATION = 0.02;

/** Products that write to the residual stream: smaller by 1 / sqrt(2 layers), so that its variance does not grow with depth (the same). */
const RESIDUAL = /\.(o_proj|down_proj|c_proj)\.weight$/;

/** Writes the weights of an untrained language model: matrices from N(0, 0.02), norms 1, biases 0. */
export function writeFreshWeights(path: string, config: ModelConfig, seed: number): void {
  const rng = new Rng(seed);
  const { entries } = layoutOf(config, ['language']);
  using writer = new SafetensorsWriter(
    path,
    entries.map(({ name, shape }) => ({ name, type: 'F32', shape })),
    { format: 'pt' },
  );
  for (const { name, shape, length } of entries) {
    const deviation = RESIDUAL.test(name) ? DEVIATION / Math.sqrt(2 * config.layers) : DEVIATION;
    const constant = name.endsWith('.bias') ? 0 : 1;
    const draw = shape.length === 1 ? () => constant : () => deviation * rng.normal();
    writer.write(name, Float32Array.from({ length }, draw));
  }
  writer.commit();
}
