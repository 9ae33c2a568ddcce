/** Whether a checkpoint has what a decoder wants, by its headers alone: before it is copied, and long before it is read. */
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { elementCount } from '../checkpoint/safetensors.js';
import type { WeightSpec } from './decoder.js';

/** Throws `checkpoint_invalid` for a tensor that is absent or has another shape than config.json says. */
export function checkWeights(checkpoint: Checkpoint, specs: readonly WeightSpec[]): void {
  for (const { source } of specs) {
    if (source.kind === 'computed') continue;
    if (source.kind === 'vector') {
      for (const { tensor, size } of source.parts) {
        // A vector may be stored with axes of extent 1 around it, as a classifier's score is.
        const shape = checkpoint.tensors.get(tensor)?.shape ?? [];
        checkpoint.require(tensor, elementCount(shape) === size ? shape : [size]);
      }
      continue;
    }
    const { parts, inputs, transposed } = source.matrix;
    for (const { tensor, size } of parts)
      checkpoint.require(tensor, transposed ? [inputs, size] : [size, inputs]);
  }
}
