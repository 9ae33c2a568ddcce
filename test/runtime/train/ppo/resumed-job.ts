/** Child process of resume.test.ts: a PPO job in the directory that is named, resumed if it was begun; events go to the parent. */
import { join } from 'node:path';
import { tokenId } from '../../../../src/core/units.js';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import { trainPpo } from '../../../../src/train/ppo/ppo.js';
import type { PpoJob } from '../../../../src/train/ppo/ppo-job.js';
import { functionReward } from '../../../../src/train/ppo/reward-source.js';
import { writeRandomLlama } from '../../../random-checkpoint.js';
import { likesNines, smallOptions, smallPrompts, tinyLlama } from './ppo-fixture.js';

const directory = process.argv[2]!;
const job: PpoJob = {
  place: {
    model: writeRandomLlama(join(directory, 'model'), tinyLlama),
    output: join(directory, 'output'),
    precision: 'float32',
    checkpoints: { directory: join(directory, 'checkpoints'), everySteps: 2, keep: 2 },
  },
  options: {
    ...smallOptions,
    iterations: 6,
    rolloutRows: 5,
    microBatchRows: 3,
    epochs: 2,
    averageDecay: 0.9,
    kl: { type: 'adaptive', coefficient: 0.1, target: 0.5, horizon: 100 },
    pretraining: { coefficient: 0.5, rowsPerEpisode: 0.5 },
  },
  value: { type: 'policy' },
  reward: functionReward(likesNines),
  rewardId: 'nines',
  prompts: smallPrompts,
  pretraining: [
    [1, 2, 3, 4],
    [5, 6, 7, 8, 9],
    [9, 9],
  ].map((ids) => ids.map(tokenId)),
  stopIds: new Set([tokenId(0)]),
  decode: () => '',
  samples: 0,
};

using runtime = openRuntime({ provider: 'cpu', threads: 2 });
for await (const event of trainPpo(runtime, job, { signal: new AbortController().signal })) {
  // Awaited, so that a kill at an event finds the job no further than that.
  await new Promise<void>((resolve) => process.send!(event, () => resolve()));
  await new Promise((resolve) => setTimeout(resolve, 20));
}
process.disconnect();
