import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type LoadOptions, loadTextModel } from '../models/load.js';
import type { RewardModel } from '../models/reward-model.js';
import { readModelConfig } from '../models/transformer/load-decoder.js';
import { type AnswerOptions, meanReward } from './best-of-n.js';
import type { Context } from './data/rows.js';
import { exportModel } from './export-model.js';
import type { ParameterArena } from './optim/parameter-arena.js';

export interface EpochScoreOptions {
  /** The directory that training started from: configuration and tokenizer. */
  readonly source: string;
  /** For the weights of the epoch that is scored; emptied again. */
  readonly scratch: string;
  readonly judge: RewardModel;
  readonly prompts: readonly Context[];
  readonly answers: AnswerOptions;
  readonly load: Omit<LoadOptions, 'cacheDirectory'>;
}

/** A scorer for trainSft: an epoch's weights answer the prompts as they would when served, and the reward model judges the answers. */
export const createEpochScore =
  ({ source, scratch, judge, prompts, answers, load }: EpochScoreOptions) =>
  async (weights: ParameterArena, epoch: number): Promise<number> => {
    const directory = join(scratch, `epoch-${epoch}`);
    const cacheDirectory = join(directory, 'cache');
    try {
      exportModel(weights, { source, directory, precision: 'float32', head: { kind: 'language' } });
      mkdirSync(cacheDirectory, { recursive: true });
      const { architecture, contextLength } = readModelConfig(directory);
      await using policy = await loadTextModel(
        {
          id: `epoch-${epoch}`,
          kind: 'language',
          directory,
          quantization: 'none',
          architecture,
          parameters: weights.layout.parameters,
          contextLength,
          contentHash: `epoch-${epoch}`,
          createdAt: new Date(),
          source: { type: 'job', location: source },
        },
        { ...load, cacheDirectory },
      );
      return await meanReward(policy, judge, prompts, answers);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  };
