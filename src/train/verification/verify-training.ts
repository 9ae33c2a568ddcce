/** Losses, gradients and optimizer steps of this build against PyTorch's, for a checkpoint of any size with its reference beside it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { openRuntime } from '../../models/runtime/open-runtime.js';
import type { Runtime } from '../../models/runtime/session.js';
import { checked, type Verdict } from '../../models/verify/verdict.js';
import { rankedPairs } from '../comparisons.js';
import { floatFeed, indexFeed, int64, languageLossGraph } from '../language-loss.js';
import { layoutOf } from '../model-weights.js';
import { ParameterArena } from '../optim/parameter-arena.js';
import { rewardLossGraph } from '../reward-loss.js';
import { type Feeds, LossSession } from '../step.js';
import {
  BOUND,
  checkGradients,
  checkNumber,
  passFeeds,
  relativeError,
  TrainingReference,
} from './training-reference.js';
import { verifyAdamW } from './verify-adamw.js';
import { verifyPpo } from './verify-ppo.js';

/** Checks sft/*, rm/* and ppo/* of reference.safetensors, whichever are there; nothing where the directory has no such file. */
export function* verifyTraining(directory: string): Generator<Verdict> {
  if (!existsSync(join(directory, 'reference.safetensors'))) return;
  using reference = new TrainingReference(directory);
  using runtime = openRuntime({ provider: 'cpu' });
  if (reference.has('sft/response_mask')) yield* verifySft(runtime, reference);
  if (reference.has('rm/scores')) yield* verifyReward(runtime, reference);
  if (reference.has('ppo/mask')) yield* verifyPpo(runtime, reference);
}

function sftFeeds(reference: TrainingReference): Feeds {
  const shape = reference.shape('logits/input_ids');
  const ids = reference.numbers('logits/input_ids');
  const mask = reference.numbers('sft/response_mask');
  const counted = ids.flatMap((_, i) => (i % shape[1] < shape[1] - 1 && mask[i + 1] === 1 ? [i] : []));
  const weights = new Float32Array(counted.length).fill(1 / counted.length);
  return { ...passFeeds(ids, shape, counted), weights: floatFeed(weights) };
}

function* verifySft(runtime: Runtime, reference: TrainingReference): Generator<Verdict> {
  const { config } = reference;
  const layout = layoutOf(config, ['language']);
  using session = new LossSession(
    runtime,
    languageLossGraph(config, { maxTime: config.contextLength }),
    layout,
  );
  using parameters = new ParameterArena(runtime, layout);
  using gradients = new ParameterArena(runtime, layout);
  reference.load(parameters);
  const feeds = sftFeeds(reference);
  const { loss } = session.run(feeds, parameters, gradients);
  yield checkNumber('sft loss', loss![0]!, reference.figure('sft_loss'));
  yield* checkGradients(reference, 'sft', gradients);
  if (reference.names('sft/after/').length === 0) return;
  yield* verifyAdamW(runtime, reference, session, feeds);
}

/** Row 0 is the best of the prompt's completions, the last the worst. */
function* verifyReward(runtime: Runtime, reference: TrainingReference): Generator<Verdict> {
  const { config } = reference;
  const layout = layoutOf(config, ['score']);
  using session = new LossSession(runtime, rewardLossGraph(config, config.contextLength), layout);
  using parameters = new ParameterArena(runtime, layout);
  using gradients = new ParameterArena(runtime, layout);
  reference.load(parameters);
  const [rows, time] = reference.shape('rm/input_ids');
  const mask = reference.numbers('rm/attention_mask');
  const last = Array.from(
    { length: rows },
    (_, row) => row * time + mask.slice(row * time, (row + 1) * time).lastIndexOf(1),
  );
  const pairs = rankedPairs(last.map((_, row) => row + 1));
  const feeds: Feeds = {
    tokens: int64(BigInt64Array.from(reference.numbers('rm/input_ids'), BigInt), [rows, time]),
    picked: indexFeed(last),
    winners: indexFeed(pairs.map(([winner]) => winner)),
    losers: indexFeed(pairs.map(([, loser]) => loser)),
    weights: floatFeed(new Float32Array(pairs.length).fill(1 / pairs.length)),
  };
  const found = session.run(feeds, parameters, gradients, { scores: rows, margins: pairs.length });
  yield checked('rm scores', relativeError(found.scores!, reference.numbers('rm/scores')), BOUND);
  yield checkNumber('rm loss', found.loss![0]!, reference.figure('rm_loss'));
  yield* checkGradients(reference, 'rm', gradients);
}
