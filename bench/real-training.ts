/**
 * Trains a real checkpoint on real text for a few steps and prints what happened: SFT on Self-Instruct's seed tasks, a reward model on
 * HH-RLHF's harmless pairs with its accuracy on pairs that it has not seen, then PPO against that reward model.
 *   npm run bench -- real-training CHECKPOINT_DIR SEED_TASKS.jsonl HH_PAIRS.jsonl [SFT_STEPS] [REWARD_STEPS] [PPO_ITERATIONS]
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { openRuntime } from '../src/models/runtime/open-runtime.js';
import type { Runtime } from '../src/models/runtime/session.js';
import { loadTokenizer } from '../src/models/tokenizer/load-tokenizer.js';
import {
  type Encoded,
  type Example,
  ExampleEncoder,
  encodeRows,
  type RankedExample,
} from '../src/train/data/examples.js';
import { parseRow } from '../src/train/data/rows.js';
import type { TrainEvent } from '../src/train/events.js';
import { trainPpo } from '../src/train/ppo/ppo.js';
import { ppoPresets } from '../src/train/ppo/ppo-presets.js';
import { RewardNetwork } from '../src/train/ppo/reward-network.js';
import { instructGptReward, trainReward } from '../src/train/reward.js';
import { instructGptSft, trainSft } from '../src/train/sft.js';

const SFT_TOKENS = 256;
const REWARD_TOKENS = 192;
const SFT_BATCH = 8;
const REWARD_BATCH = 8;
const HELD_OUT_PAIRS = 100;

const linesOf = (file: string): string[] => readFileSync(file, 'utf8').trim().split('\n');

interface SeedTask {
  readonly instruction: string;
  readonly instances: readonly { readonly input: string; readonly output: string }[];
}

/** A seed task as a chat: instruction and input, then the first output. */
function demonstrationOf(line: string): string {
  const { instruction, instances } = JSON.parse(line) as SeedTask;
  const { input, output } = instances[0]!;
  const content = input === '' ? instruction : `${instruction}\n\n${input}`;
  return JSON.stringify({ messages: [{ role: 'user', content }], completion: output });
}

async function report(name: string, events: AsyncIterable<TrainEvent>): Promise<void> {
  const losses: number[] = [];
  const speeds: number[] = [];
  for await (const event of events) {
    if (event.type === 'step') {
      losses.push(event.loss);
      speeds.push(event.tokensPerSecond);
      const more = Object.entries(event.metrics).map(
        ([key, value]) => `${key} ${Number(value.toPrecision(3))}`,
      );
      console.log(
        `${name} step ${event.step}/${event.totalSteps}: loss ${event.loss.toFixed(4)}, gradient norm ${event.gradientNorm.toFixed(2)}, ${event.tokensPerSecond.toFixed(0)} tok/s, ${more.join(', ')}`,
      );
    } else if (event.type === 'evaluation') console.log(`${name} evaluation:`, event.metrics);
    else if (event.type === 'stopped') console.log(`${name} stopped:`, event);
    else if (event.type === 'sample') console.log(`${name} sample:`, JSON.stringify(event.completion));
  }
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const third = Math.max(1, Math.floor(losses.length / 3));
  console.log(
    `${name}: mean loss of the first third ${mean(losses.slice(0, third)).toFixed(4)}, of the last ${mean(losses.slice(-third)).toFixed(4)}; ${mean(speeds).toFixed(0)} tok/s; peak RSS ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB`,
  );
}

async function sft(
  runtime: Runtime,
  model: string,
  output: string,
  rows: readonly string[],
  steps: number,
  encoder: ExampleEncoder,
) {
  const numbered = rows.map((row, i) => ({
    line: i + 1,
    row: parseRow('demonstrations', demonstrationOf(row), i + 1),
  }));
  const { examples, skipped }: Encoded<Example> = await encodeRows(
    numbered,
    (row) => encoder.demonstration(row),
    'skip',
  );
  const held = examples.slice(0, 24);
  const train = examples.slice(24, 24 + steps * SFT_BATCH);
  console.log(
    `SFT on ${train.length} seed tasks (${skipped} longer than ${SFT_TOKENS} tokens left out), ${held.length} held out`,
  );
  const options = {
    ...instructGptSft,
    epochs: 1,
    batchSize: SFT_BATCH,
    microBatchTokens: 512,
    learningRate: 2e-5,
    dropout: 0,
    selection: 'last' as const,
  };
  const place = { model, output, precision: 'bfloat16' as const, checkpoints: null };
  await report(
    'SFT',
    trainSft(
      runtime,
      { place, options, train, validation: held, pretraining: [] },
      { signal: new AbortController().signal },
    ),
  );
}

async function reward(
  runtime: Runtime,
  model: string,
  output: string,
  rows: readonly string[],
  steps: number,
  encoder: ExampleEncoder,
) {
  const numbered = rows.flatMap((row, i) => {
    const { chosen, rejected } = JSON.parse(row) as { chosen: string; rejected: string };
    const isEmpty = [chosen, rejected].some((text) => text.trim().endsWith('Assistant:'));
    return isEmpty ? [] : [{ line: i + 1, row: parseRow('comparisons', row, i + 1) }];
  });
  const { examples, skipped }: Encoded<RankedExample> = await encodeRows(
    numbered,
    (row) => encoder.comparison(row),
    'skip',
  );
  const held = examples.slice(0, HELD_OUT_PAIRS);
  const train = examples.slice(HELD_OUT_PAIRS, HELD_OUT_PAIRS + steps * REWARD_BATCH);
  console.log(
    `reward model on ${train.length} pairs (${skipped} longer than ${REWARD_TOKENS} tokens left out), ${held.length} held out`,
  );
  const options = {
    ...instructGptReward,
    batchSize: REWARD_BATCH,
    microBatchTokens: 1024,
    learningRate: 2e-5,
  };
  const place = { model, output, precision: 'bfloat16' as const, checkpoints: null };
  const job = { place, options, train, heldOut: { prompts: held }, demonstrations: [] };
  await report('reward', trainReward(runtime, job, { signal: new AbortController().signal }));
}

const PPO_PROMPT_TOKENS = 64;
const PPO_RESPONSE_TOKENS = 32;

interface PpoAsk {
  readonly policy: string;
  readonly rewardModel: string;
  readonly output: string;
  readonly pairs: readonly string[];
  readonly iterations: number;
}

/** Prompts are the openings of pairs that the reward model was not trained on. */
async function ppo(
  runtime: Runtime,
  { policy, rewardModel, output, pairs, iterations }: PpoAsk,
): Promise<void> {
  const loaded = (await loadTokenizer(policy))!;
  const encoder = new ExampleEncoder({ ...loaded, contextLength: PPO_PROMPT_TOKENS + 1 });
  const numbered = pairs
    .toReversed()
    .map((row, i) => ({ line: i + 1, row: parseRow('comparisons', row, i + 1) }));
  const { examples: prompts } = await encodeRows(
    numbered,
    ({ row, line }) => [encoder.prompt(row.context, line)],
    'skip',
  );
  const maxTime = PPO_PROMPT_TOKENS + PPO_RESPONSE_TOKENS + 1;
  using reward = new RewardNetwork(runtime, rewardModel, { maxTime, batchRows: 8, ending: [] });
  const options = {
    ...ppoPresets.instructgpt,
    iterations,
    batchSize: 16,
    minibatches: 2,
    microBatchRows: 8,
    rolloutRows: 16,
    responseTokens: PPO_RESPONSE_TOKENS,
    schedule: { type: 'constant', warmUpSteps: 0 } as const,
    pretraining: { coefficient: 0, rowsPerEpisode: 0 },
    seed: 1,
  };
  const events = trainPpo(
    runtime,
    {
      place: { model: policy, output, precision: 'bfloat16', checkpoints: null },
      options,
      value: { type: 'reward_model', directory: rewardModel },
      reward,
      rewardId: 'reward model of this run',
      prompts,
      pretraining: [],
      stopIds: loaded.tokenizer.endOfText,
      decode: (ids) => loaded.tokenizer.decode(ids),
      samples: 1,
    },
    { signal: new AbortController().signal },
  );
  await report('PPO', events);
}

export default async function realTraining(args: readonly string[]): Promise<void> {
  const [model, seedTasks, pairs, sftSteps = '12', rewardSteps = '40', iterations = '4'] = args;
  if (model === undefined || seedTasks === undefined || pairs === undefined)
    throw new Error(
      'npm run bench -- real-training CHECKPOINT_DIR SEED_TASKS.jsonl HH_PAIRS.jsonl [SFT_STEPS] [REWARD_STEPS]',
    );
  const loaded = await loadTokenizer(model);
  if (loaded === null) throw new Error(`${model} has no tokenizer`);
  using runtime = openRuntime({ provider: 'cpu', threads: availableParallelism() });
  const work = mkdtempSync(join(tmpdir(), 'instructd-real-training-'));
  try {
    const encoder = (contextLength: number) => new ExampleEncoder({ ...loaded, contextLength });
    const policy = join(work, 'sft');
    await sft(runtime, model, policy, linesOf(seedTasks), Number(sftSteps), encoder(SFT_TOKENS));
    const rewardModel = join(work, 'reward');
    const rows = linesOf(pairs);
    await reward(runtime, policy, rewardModel, rows, Number(rewardSteps), encoder(REWARD_TOKENS));
    await ppo(runtime, {
      policy,
      rewardModel,
      output: join(work, 'ppo'),
      pairs: rows,
      iterations: Number(iterations),
    });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
