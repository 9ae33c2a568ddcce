/** A training run of its own process, for tests that kill it: `node sft-process.js <directory>`; prints a line an event. */
import { join } from 'node:path';
import { openRuntime } from '../../../src/models/runtime/open-runtime.js';
import { trainSft } from '../../../src/train/sft.js';
import { placeIn, randomExamples, sftOptions } from './tiny-training.js';

const directory = process.argv[2]!;
using runtime = openRuntime({ provider: 'cpu', threads: 2 });
const job = {
  place: placeIn(directory, {
    checkpoints: { directory: join(directory, 'checkpoints'), everySteps: 3, keep: 2 },
  }),
  options: {
    ...sftOptions,
    epochs: 4,
    averageDecay: 0.9,
    dropout: 0.1,
    pretrainingShare: 0.25,
    selection: 'validation_loss' as const,
  },
  train: randomExamples(40, 1),
  validation: randomExamples(8, 2),
  pretraining: randomExamples(10, 3).map(({ tokens }) => ({ tokens, start: 1 })),
};
for await (const event of trainSft(runtime, job, { signal: new AbortController().signal }))
  console.log(JSON.stringify(event));
