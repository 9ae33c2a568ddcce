import { AppError } from '../../core/errors.js';
import type { TokenId } from '../../core/units.js';
import type { ModelConfig } from '../../models/transformer/model-config.js';
import type { WeightPrecision } from '../export-model.js';
import type { PpoHyperparameters } from './ppo-presets.js';
import type { Reward } from './reward-source.js';

/** What the value function starts from. */
export type ValueStart =
  /** A reward model's trunk and head (Stiennon et al. 2020, Ouyang et al. 2022); any architecture with the policy's token ids. */
  | { readonly type: 'reward_model'; readonly directory: string }
  /** The policy's trunk with a head of zeros. */
  | { readonly type: 'policy' };

export interface PpoPlace {
  /** The SFT model to start from, and the reference that KL is measured from: a Hugging Face directory. */
  readonly model: string;
  /** Where the result is written, as a Hugging Face directory. */
  readonly output: string;
  readonly precision: WeightPrecision;
  /** `everySteps` counts iterations. At least the newest two stay, whatever `keep` says. */
  readonly checkpoints: {
    readonly directory: string;
    readonly everySteps: number;
    readonly keep: number;
  } | null;
}

export interface PpoJob {
  readonly place: PpoPlace;
  readonly options: PpoHyperparameters & { readonly seed: number };
  readonly value: ValueStart;
  readonly reward: Reward;
  /** Names the reward, so that a run is not resumed with another one. */
  readonly rewardId: string;
  /** Token ids, ready for the first token of a response; none empty. */
  readonly prompts: readonly (readonly TokenId[])[];
  /** Whole documents for PPO-ptx, of at least two tokens; may be empty where the coefficient is 0. */
  readonly pretraining: readonly (readonly TokenId[])[];
  /** Tokens that end a response. */
  readonly stopIds: ReadonlySet<TokenId>;
  /** Text of ids, for rewards that read text and for samples. */
  readonly decode: (ids: readonly TokenId[]) => string;
  /** Responses of each iteration that are shown as events. */
  readonly samples: number;
}

/** Longest row of the job's rollouts. */
export const longestSequence = ({ prompts, options }: PpoJob): number =>
  prompts.reduce((longest, { length }) => Math.max(longest, length), 0) + options.responseTokens;

/** @throws AppError `invalid_value`, `dataset_empty`, `example_too_long`: whatever can be seen before anything is loaded */
export function checkJob(job: PpoJob, config: ModelConfig): void {
  for (const [name, value, isRight, range] of ranges(job.options)) {
    if (isRight) continue;
    throw new AppError('invalid_value', `\`${name}\` is ${value}, it must be ${range}.`, { param: name });
  }
  if (job.prompts.length === 0) throw new AppError('dataset_empty', 'There are no prompts to answer.');
  const empty = job.prompts.findIndex(({ length }) => length === 0);
  if (empty >= 0)
    throw new AppError('invalid_value', `Prompt ${empty + 1} has no tokens.`, { param: `prompts.${empty}` });
  const longest = longestSequence(job);
  if (longest > config.contextLength)
    throw new AppError(
      'example_too_long',
      `The longest prompt and ${job.options.responseTokens} response tokens are ${longest} tokens, over the context of ${config.contextLength}.`,
      { param: 'response_tokens' },
    );
  if (job.options.pretraining.coefficient > 0 && job.pretraining.length === 0)
    throw new AppError(
      'dataset_empty',
      'PPO-ptx has a coefficient and no pretraining documents; give some or set the coefficient to 0.',
      { param: 'pretraining' },
    );
}

type Range = readonly [name: string, value: unknown, isRight: boolean, range: string];

const isCount = (value: number): boolean => Number.isInteger(value) && value >= 1;
const isShare = (value: number): boolean => value >= 0 && value <= 1;

function ranges(options: PpoHyperparameters): Range[] {
  const counts = [
    'iterations',
    'batchSize',
    'minibatches',
    'epochs',
    'microBatchRows',
    'rolloutRows',
    'responseTokens',
  ] as const;
  const positive = ['temperature', 'learningRate', 'valueClip'] as const;
  const { minibatches, batchSize, clip, gamma, lambda, kl, critic, scoreAt, pretraining } = options;
  return [
    ...counts.map((name): Range => [name, options[name], isCount(options[name]), 'a whole number from 1']),
    ...positive.map((name): Range => [name, options[name], options[name] > 0, 'over 0']),
    ['minibatches', minibatches, minibatches <= batchSize, `at most the batch size, ${batchSize}`],
    ['clip', clip, clip > 0 && clip < 1, 'between 0 and 1'],
    ['gamma', gamma, isShare(gamma), 'in [0, 1]'],
    ['lambda', lambda, isShare(lambda), 'in [0, 1]'],
    ['kl.coefficient', kl.coefficient, kl.coefficient >= 0, 'at least 0'],
    [
      'scoreAt',
      scoreAt,
      critic.type !== 'shared_trunk' || scoreAt === 'last_token',
      '`last_token` where policy and value function share a trunk',
    ],
    ['pretraining.coefficient', pretraining.coefficient, pretraining.coefficient >= 0, 'at least 0'],
  ];
}
