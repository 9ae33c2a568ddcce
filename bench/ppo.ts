/**
 * Seconds a PPO iteration, and their shares: a llama of 1.57M parameters, a value and a reward model of the same size, 64 prompts of 24
 * tokens, 24 generated tokens each, 1 epoch, 1 minibatch.
 *
 * npm run bench -- ppo [--threads N] [--iterations N] [--trl PYTHON]
 *
 * `--trl` runs the peer (peers/trl_ppo.py) on the same weights and prompts, before and after ours; PYTHON has trl 1.9.0 and torch installed.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { Rng } from '../src/core/rng.js';
import { type TokenId, tokenId } from '../src/core/units.js';
import { openRuntime } from '../src/models/runtime/open-runtime.js';
import type { StepEvent } from '../src/train/events.js';
import { trainPpo } from '../src/train/ppo/ppo.js';
import type { PpoJob } from '../src/train/ppo/ppo-job.js';
import { ppoPresets } from '../src/train/ppo/ppo-presets.js';
import { RewardNetwork } from '../src/train/ppo/reward-network.js';
import { type RandomLlama, writeRandomLlama } from '../test/random-checkpoint.js';
import { median } from './statistics.js';

const llama: RandomLlama = {
  vocabulary: 2048,
  hidden: 160,
  layers: 4,
  heads: 5,
  mlp: 432,
  contextLength: 128,
  head: 'language',
  seed: 1,
  deviation: 0.02,
};
const PROMPTS = 64;
const PROMPT_TOKENS = 24;
const RESPONSE_TOKENS = 24;
/** Iterations that are run and not counted: first runs allocate. */
const WARM_UP = 2;

const root = fileURLToPath(new URL('../../', import.meta.url));

interface Workload {
  readonly policy: string;
  readonly reward: string;
  readonly prompts: readonly (readonly TokenId[])[];
  readonly threads: number;
  readonly iterations: number;
}

/** Ids from 1 on: 0 is the peer's padding. */
function randomPrompts(): TokenId[][] {
  const rng = new Rng(7);
  return Array.from({ length: PROMPTS }, () =>
    Array.from({ length: PROMPT_TOKENS }, () => tokenId(1 + rng.below(llama.vocabulary - 1))),
  );
}

/** Of one iteration: wall clock, and processor time of all threads, which other programs on the machine change little. */
interface Iteration {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

interface OurIteration extends Iteration {
  readonly step: StepEvent;
}

async function ours(
  directory: string,
  { policy, reward, prompts, threads, iterations }: Workload,
): Promise<OurIteration[]> {
  using runtime = openRuntime({ provider: 'cpu', threads });
  using scorer = new RewardNetwork(runtime, reward, {
    maxTime: PROMPT_TOKENS + RESPONSE_TOKENS,
    batchRows: PROMPTS,
    ending: [],
  });
  const job: PpoJob = {
    place: { model: policy, output: join(directory, 'output'), precision: 'float32', checkpoints: null },
    options: {
      ...ppoPresets.instructgpt,
      iterations: WARM_UP + iterations,
      batchSize: PROMPTS,
      minibatches: 1,
      responseTokens: RESPONSE_TOKENS,
      responseEnd: 'full_length',
      pretraining: { coefficient: 0, rowsPerEpisode: 0 },
      averageDecay: null,
      seed: 1,
    },
    value: { type: 'reward_model', directory: reward },
    reward: scorer,
    rewardId: 'bench',
    prompts,
    pretraining: [],
    stopIds: new Set(),
    decode: () => '',
    samples: 0,
  };
  const found: OurIteration[] = [];
  let before = process.cpuUsage();
  for await (const step of trainPpo(runtime, job, { signal: new AbortController().signal })) {
    if (step.type !== 'step') continue;
    const { user, system } = process.cpuUsage(before);
    before = process.cpuUsage();
    found.push({ step, seconds: step.tokens / step.tokensPerSecond, cpuSeconds: (user + system) / 1e6 });
  }
  return found.slice(WARM_UP);
}

/** The counted iterations of TRL's trainer. */
async function trl(python: string, workload: Workload, directory: string): Promise<Iteration[]> {
  const file = join(directory, 'prompts.json');
  writeFileSync(file, JSON.stringify(workload.prompts));
  const { policy, reward, threads, iterations } = workload;
  const script = join(root, 'bench/peers/trl_ppo.py');
  const args = [script, policy, reward, file, RESPONSE_TOKENS, WARM_UP, iterations, threads].map(String);
  const { stdout } = await promisify(execFile)(python, args, { maxBuffer: 1 << 26 });
  return (JSON.parse(stdout.trim().split('\n').at(-1)!) as { iterations: Iteration[] }).iterations;
}

export default async function bench(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: { threads: { type: 'string' }, iterations: { type: 'string' }, trl: { type: 'string' } },
  });
  const directory = mkdtempSync(join(tmpdir(), 'instructd-bench-ppo-'));
  const workload: Workload = {
    policy: writeRandomLlama(join(directory, 'policy'), llama),
    reward: writeRandomLlama(join(directory, 'reward'), { ...llama, head: 'reward', seed: 2 }),
    prompts: randomPrompts(),
    threads: Number(values.threads ?? availableParallelism()),
    iterations: Number(values.iterations ?? 10),
  };
  try {
    const peer = () => (values.trl === undefined ? [] : trl(values.trl, workload, directory));
    const before = await peer();
    const steps = await ours(directory, workload);
    const theirs = [...before, ...(await peer())];
    report(steps, theirs);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const tokens = PROMPTS * RESPONSE_TOKENS;

function line(name: string, iterations: readonly Iteration[]): Iteration {
  const seconds = median(iterations.map((one) => one.seconds));
  const cpuSeconds = median(iterations.map((one) => one.cpuSeconds));
  const rate = Math.round(tokens / seconds);
  console.log(
    `${name.padEnd(10)} ${seconds.toFixed(3)} s an iteration (${cpuSeconds.toFixed(3)} s of processor time), ${rate} response tokens/s`,
  );
  return { seconds, cpuSeconds };
}

function report(iterations: readonly OurIteration[], theirs: readonly Iteration[]): void {
  const our = line('instructd', iterations);
  for (const phase of ['rollout', 'scoring', 'update']) {
    const share = median(iterations.map(({ step }) => step.metrics[`${phase}Share`]!));
    console.log(`  ${phase.padEnd(8)} ${(100 * share).toFixed(0).padStart(3)} %`);
  }
  const gap = Math.max(...iterations.map(({ step }) => step.metrics.samplerGap!));
  console.log(`  largest |log-probability difference| of sampler and trainer ${gap.toExponential(1)}`);
  if (theirs.length === 0) return;
  const peer = line('TRL', theirs);
  const ratio = (key: keyof Iteration) => (peer[key] / our[key]).toFixed(2);
  console.log(`ratio      ${ratio('seconds')}x in time, ${ratio('cpuSeconds')}x in processor time`);
}
