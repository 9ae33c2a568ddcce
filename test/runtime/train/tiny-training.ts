import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Rng } from '../../../src/core/rng.js';
import type { Example } from '../../../src/train/data/examples.js';
import type { TrainEvent } from '../../../src/train/events.js';
import type { SftOptions } from '../../../src/train/sft.js';
import { instructGptAdam, type TrainingPlace } from '../../../src/train/training-job.js';
import { sharedPath } from '../../shared.js';

/** Small training runs on the tiny reference checkpoints (vocabulary 96, width 32, 2 layers). */

export const VOCABULARY = 96;

const scratch = mkdtempSync(join(tmpdir(), 'instructd-train-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

export const scratchDirectory = (): string => mkdtempSync(join(scratch, 'run-'));

/** Prompts of 2 to 8 random tokens, answers of 1 to 6. */
export function randomExamples(count: number, seed: number): Example[] {
  const rng = new Rng(seed, 77);
  return Array.from({ length: count }, () => {
    const start = 2 + rng.below(7);
    const length = start + 1 + rng.below(6);
    return { tokens: Int32Array.from({ length }, () => 3 + rng.below(VOCABULARY - 3)), start };
  });
}

export const sftOptions: SftOptions = {
  epochs: 2,
  batchSize: 8,
  microBatchTokens: 64,
  learningRate: 3e-3,
  schedule: { type: 'cosine', warmUpSteps: 2, finalFraction: 0.1 },
  optimizer: instructGptAdam,
  averageDecay: null,
  seed: 3,
  loss: 'responses',
  dropout: 0,
  pretrainingShare: 0,
  selection: 'last',
};

export const placeIn = (
  directory: string,
  change: Partial<TrainingPlace> = {},
  architecture = 'llama',
): TrainingPlace => ({
  model: sharedPath('reference', architecture),
  output: join(directory, 'model'),
  precision: 'float32',
  checkpoints: null,
  ...change,
});

export async function collect(events: AsyncIterable<TrainEvent>): Promise<TrainEvent[]> {
  const all: TrainEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

export const lossesOf = (events: readonly TrainEvent[]): number[] =>
  events.flatMap((event) => (event.type === 'step' ? event.loss : []));

export const hashOf = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

/** The exported weights. */
export const weightsHash = ({ output }: TrainingPlace): string => hashOf(join(output, 'model.safetensors'));
