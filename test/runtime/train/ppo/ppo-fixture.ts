import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tokenId } from '../../../../src/core/units.js';
import type { Runtime } from '../../../../src/models/runtime/session.js';
import type { Metrics, TrainEvent } from '../../../../src/train/events.js';
import { trainPpo } from '../../../../src/train/ppo/ppo.js';
import type { PpoJob } from '../../../../src/train/ppo/ppo-job.js';
import { type PpoHyperparameters, ppoPresets } from '../../../../src/train/ppo/ppo-presets.js';
import { functionReward, type RewardSample } from '../../../../src/train/ppo/reward-source.js';
import { type RandomLlama, writeRandomLlama } from '../../../random-checkpoint.js';

export const tinyLlama: RandomLlama = {
  vocabulary: 16,
  hidden: 32,
  layers: 2,
  heads: 4,
  mlp: 48,
  contextLength: 64,
  head: 'language',
  seed: 3,
  deviation: 0.1,
};

/** A directory for one test, gone with it. */
export class Scratch implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'instructd-ppo-'));

  path(name: string): string {
    return join(this.directory, name);
  }

  llama(name: string, options: Partial<RandomLlama> = {}): string {
    return writeRandomLlama(this.path(name), { ...tinyLlama, ...options });
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }
}

/** The paper's preset at the size of a test: a rate that a model of some thousand weights can learn with. */
export const smallOptions: PpoHyperparameters & { readonly seed: number } = {
  ...ppoPresets.instructgpt,
  iterations: 3,
  batchSize: 16,
  minibatches: 2,
  responseTokens: 6,
  microBatchRows: 16,
  rolloutRows: 16,
  learningRate: 1e-3,
  critic: { type: 'separate', learningRate: 1e-3 },
  schedule: { type: 'constant', warmUpSteps: 0 },
  pretraining: { coefficient: 0, rowsPerEpisode: 0 },
  averageDecay: null,
  seed: 1,
};

const ids = (...list: number[]) => list.map(tokenId);
export const smallPrompts = [ids(1, 2, 3), ids(4), ids(5, 6), ids(7, 8, 9, 10), ids(11, 12)];

/** Share of a response that is token 9. */
export const likesNines = ({ response }: RewardSample): number =>
  response.filter((id) => id === 9).length / Math.max(1, response.length);

export function smallJob(scratch: Scratch, changes: Partial<PpoJob> = {}): PpoJob {
  return {
    place: {
      model: scratch.llama('model'),
      output: scratch.path('output'),
      precision: 'float32',
      checkpoints: null,
    },
    options: smallOptions,
    value: { type: 'policy' },
    reward: functionReward(likesNines),
    rewardId: 'nines',
    prompts: smallPrompts,
    pretraining: [],
    stopIds: new Set(ids(0)),
    decode: (tokens) => tokens.join(' '),
    samples: 0,
    ...changes,
  };
}

export async function run(
  runtime: Runtime,
  job: PpoJob,
  signal: AbortSignal = new AbortController().signal,
): Promise<TrainEvent[]> {
  const events: TrainEvent[] = [];
  for await (const event of trainPpo(runtime, job, { signal })) events.push(event);
  return events;
}

/** Metrics of each iteration. */
export const stepsOf = (events: readonly TrainEvent[]): Metrics[] =>
  events.flatMap((event) => (event.type === 'step' ? [event.metrics] : []));
