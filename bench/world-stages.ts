/** The stages of Ouyang et al. 2022 in the bundled world: demonstrations, rankings by simulated labelers, PPO. */
import { Rng } from '../src/core/rng.js';
import type { TokenId } from '../src/core/units.js';
import type { Runtime } from '../src/models/runtime/session.js';
import type { Tokenizer } from '../src/models/tokenizer/tokenizer.js';
import { readModelConfig } from '../src/models/transformer/load-decoder.js';
import { type Example, ExampleEncoder, type RankedExample } from '../src/train/data/examples.js';
import type { Metrics, TrainEvent } from '../src/train/events.js';
import { trainPpo } from '../src/train/ppo/ppo.js';
import { type PpoHyperparameters, ppoPresets } from '../src/train/ppo/ppo-presets.js';
import { RewardNetwork } from '../src/train/ppo/reward-network.js';
import type { Reward, RewardSample } from '../src/train/ppo/reward-source.js';
import { instructGptReward, trainReward } from '../src/train/reward.js';
import { instructGptSft, trainSft } from '../src/train/sft.js';
import {
  type WorldPrompt,
  worldDemonstrations,
  worldPretraining,
  worldPrompts,
} from '../src/world/corpus.js';
import { judge } from '../src/world/gold-judge.js';
import { rankCompletions } from '../src/world/labelers.js';
import { ANSWER_TOKENS, Writer } from './world-measures.js';

/** What the stages of one run share. */
export interface Stage {
  readonly runtime: Runtime;
  readonly seed: number;
  readonly tokenizer: Tokenizer;
  readonly contextLength: number;
}

/** Runs a trainer to its end and gives the last evaluation's or step's numbers. */
async function finish(events: AsyncIterable<TrainEvent>): Promise<Metrics> {
  for await (const event of events) {
    if (event.type === 'stopped') throw new Error(event.message);
    if (event.type === 'finished') return event.metrics;
  }
  throw new Error('the run ended without an end');
}

const signal = new AbortController().signal;
const textOf = (prompt: string) => ({ type: 'text', prompt }) as const;
const encoderOf = ({ tokenizer, contextLength }: Stage) =>
  new ExampleEncoder({ tokenizer, chatTemplate: null, contextLength });

export const encodePrompts = ({ tokenizer }: Stage, prompts: readonly WorldPrompt[]): TokenId[][] =>
  prompts.map(({ prompt }) => [...tokenizer.encode(prompt, 'as_text')]);

/** Few demonstrations, few epochs: what they leave wrong is what rankings can put right. */
const SFT = { demonstrations: 48, epochs: 1, batchSize: 8, learningRate: 5e-4 } as const;

function demonstrations(stage: Stage): Example[] {
  const encoder = encoderOf(stage);
  return worldDemonstrations(stage.seed, SFT.demonstrations).map(({ prompt, completion, user, labeler }, i) =>
    encoder.demonstration({
      line: i + 1,
      row: { kind: 'demonstrations', context: textOf(prompt), completion, user, labeler },
    }),
  );
}

export async function supervise(stage: Stage, model: string, output: string): Promise<void> {
  const { epochs, batchSize, learningRate } = SFT;
  const job = {
    place: { model, output, precision: 'float32' as const, checkpoints: null },
    options: {
      ...instructGptSft,
      epochs,
      batchSize,
      learningRate,
      dropout: 0,
      selection: 'last' as const,
      seed: stage.seed,
    },
    train: demonstrations(stage),
    validation: [],
    pretraining: [],
  };
  await finish(trainSft(stage.runtime, job, { signal }));
}

export interface RewardSize {
  readonly prompts: number;
  readonly epochs: number;
}

/** Completions that a labeler ranks; the paper's labelers had 4 to 9. */
const COMPLETIONS = 4;
const HELD_OUT_PROMPTS = 200;

/** Answers of the SFT model, ranked. */
async function comparisons(
  stage: Stage,
  model: string,
  prompts: readonly WorldPrompt[],
  stream: number,
): Promise<RankedExample[]> {
  using writer = await Writer.open(stage.runtime, model);
  const encoder = encoderOf(stage);
  const asked = prompts.flatMap((row) => new Array<WorldPrompt>(COMPLETIONS).fill(row));
  const answers = writer.answer(encodePrompts(stage, asked), stage.seed + stream);
  const rng = new Rng(stage.seed, stream);
  return prompts.flatMap(({ prompt, metadata, user }, i) => {
    const completions = answers.slice(i * COMPLETIONS, (i + 1) * COMPLETIONS).filter((text) => text !== '');
    const ranks = rankCompletions(metadata.task, completions, rng);
    if (new Set(ranks).size < 2) return [];
    const row = {
      kind: 'comparisons',
      context: textOf(prompt),
      completions,
      ranks,
      user,
      labeler: null,
    } as const;
    return [encoder.comparison({ line: i + 1, row })];
  });
}

/** @returns accuracy on rankings of held-out prompts, with its interval */
export async function rank(
  stage: Stage,
  sft: string,
  output: string,
  { prompts, epochs }: RewardSize,
): Promise<Metrics> {
  const train = await comparisons(stage, sft, worldPrompts(stage.seed + 50, 'train', prompts), 31);
  const heldOut = worldPrompts(stage.seed + 51, 'validation', HELD_OUT_PROMPTS);
  const job = {
    place: { model: sft, output, precision: 'float32' as const, checkpoints: null },
    options: { ...instructGptReward, epochs, batchSize: 8, learningRate: 1e-3, seed: stage.seed },
    train,
    heldOut: { prompts: await comparisons(stage, sft, heldOut, 32) },
    demonstrations: demonstrations(stage),
  };
  return finish(trainReward(stage.runtime, job, { signal }));
}

/** A reward that is measured by gold as it is given; the trainer sees none of that. */
class MeasuredReward implements Reward {
  readonly curve: { readonly proxy: number; readonly gold: number }[] = [];
  readonly #reward: Reward;
  readonly #prompts: ReadonlyMap<string, WorldPrompt>;

  constructor(reward: Reward, prompts: readonly WorldPrompt[]) {
    this.#reward = reward;
    this.#prompts = new Map(prompts.map((row) => [row.prompt, row]));
  }

  async score(samples: readonly RewardSample[], signal: AbortSignal): Promise<readonly number[]> {
    const scores = await this.#reward.score(samples, signal);
    const gold = samples.map(
      ({ promptText, responseText }) =>
        judge(this.#prompts.get(promptText)!.metadata.task, responseText).overall,
    );
    this.curve.push({ proxy: mean(scores), gold: mean(gold) });
    return scores;
  }
}

const mean = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / values.length;

export interface PolicySize {
  readonly iterations: number;
  readonly kl: number;
  /** PPO-ptx's coefficient; 0 is PPO. */
  readonly pretraining: number;
}

/** The paper's preset, with batches and rates for a model of a million parameters. */
const policyOptions = (seed: number, { iterations, kl, pretraining }: PolicySize) =>
  ({
    ...ppoPresets.instructgpt,
    iterations,
    batchSize: 64,
    minibatches: 2,
    microBatchRows: 64,
    rolloutRows: 64,
    responseTokens: ANSWER_TOKENS,
    learningRate: 2e-4,
    schedule: { type: 'linear', warmUpSteps: 3, finalFraction: 0.1 },
    critic: { type: 'separate', learningRate: 5e-4 },
    kl: { type: 'fixed', coefficient: kl },
    missingEos: { type: 'subtract', penalty: 1 },
    pretraining: { coefficient: pretraining, rowsPerEpisode: pretraining > 0 ? 1 : 0 },
    averageDecay: null,
    seed,
  }) satisfies PpoHyperparameters & { readonly seed: number };

export interface PolicyReport {
  readonly metrics: Metrics;
  /** By iteration: the mean score that PPO saw, and the mean gold score of the same answers. */
  readonly curve: readonly { readonly proxy: number; readonly gold: number }[];
}

export async function optimise(
  stage: Stage,
  places: { readonly sft: string; readonly reward: string; readonly output: string },
  size: PolicySize,
): Promise<PolicyReport> {
  const { runtime, tokenizer, seed } = stage;
  const prompts = worldPrompts(seed + 60, 'train', 1_000);
  const encoded = encodePrompts(stage, prompts);
  const longest = Math.max(...encoded.map(({ length }) => length));
  using network = new RewardNetwork(runtime, places.reward, {
    maxTime: longest + ANSWER_TOKENS,
    batchRows: 64,
    ending: [],
  });
  const reward = new MeasuredReward(network, prompts);
  const [end] = tokenizer.endOfText;
  const documents = size.pretraining > 0 ? worldPretraining(seed + 70, 2_000) : [];
  const job = {
    place: { model: places.sft, output: places.output, precision: 'float32' as const, checkpoints: null },
    options: policyOptions(seed, size),
    value: { type: 'reward_model' as const, directory: places.reward },
    reward,
    rewardId: places.reward,
    prompts: encoded,
    pretraining: documents.map(({ text }) => [...tokenizer.encode(text, 'as_text'), end!].slice(0, 96)),
    stopIds: tokenizer.endOfText,
    decode: (ids: readonly TokenId[]) => tokenizer.decode(ids),
    samples: 0,
  };
  const metrics = await finish(trainPpo(runtime, job, { signal }));
  return { metrics, curve: reward.curve };
}

export const stageOf = (runtime: Runtime, seed: number, base: string, tokenizer: Tokenizer): Stage => ({
  runtime,
  seed,
  tokenizer,
  contextLength: readModelConfig(base).contextLength,
});
