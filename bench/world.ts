/**
 * The paper's experiment in the bundled world: base -> SFT -> reward model -> PPO and PPO-ptx, measured on held-out prompts by a gold judge
 * that no trainer sees.
 *   npm run bench -- world [--base models/world-base] [--seeds 1,2,3] [--prompts 400] [--iterations 24] [--work DIR]
 */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openRuntime } from '../src/models/runtime/open-runtime.js';
import type { Metrics } from '../src/train/events.js';
import { worldPrompts } from '../src/world/corpus.js';
import type { GoldScore } from '../src/world/gold-judge.js';
import {
  corpusLoss,
  goldScores,
  heldOutCorpus,
  type Rates,
  ratesOf,
  requireTokenizer,
  type WinRate,
  Writer,
  winRate,
} from './world-measures.js';
import {
  encodePrompts,
  optimise,
  type PolicyReport,
  rank,
  type Stage,
  stageOf,
  supervise,
} from './world-stages.js';

const REWARD = { prompts: 800, epochs: 2 } as const;
/** Too little to know what people want. */
const SMALL_REWARD = { prompts: 48, epochs: 4 } as const;
const KL = 0.15;
const PTX = 1;
const CORPUS_ROWS = 64;

interface StageReport {
  readonly scores: readonly GoldScore[];
  readonly rates: Rates;
  readonly corpusLoss: number;
}

type StageName = 'base' | 'sft' | 'ppo' | 'ppo_ptx';

interface SeedReport {
  readonly stages: Readonly<Record<StageName, StageReport>>;
  readonly reward: Metrics;
  readonly ppo: PolicyReport;
  readonly ptx: PolicyReport;
  readonly freed: PolicyReport;
  readonly minutes: number;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const interval = ({ rate, low, high }: WinRate): string =>
  `${percent(rate)} [${percent(low)}, ${percent(high)}]`;
const row = (cells: readonly (string | number)[]): void => console.log(`| ${cells.join(' | ')} |`);
function table(head: readonly string[]): void {
  console.log('');
  row(head);
  row(head.map(() => '---'));
}

/** Tells of a stage as it ends; goes to standard error so that the tables alone are the output. */
const progress = (text: string): void => console.error(`${new Date().toISOString().slice(11, 19)} ${text}`);

async function measure(stage: Stage, directory: string, count: number): Promise<StageReport> {
  const prompts = worldPrompts(9, 'test', count);
  using writer = await Writer.open(stage.runtime, directory);
  const scores = goldScores(prompts, writer.answer(encodePrompts(stage, prompts), stage.seed + 90));
  const loss = corpusLoss(stage.runtime, directory, await heldOutCorpus(directory, CORPUS_ROWS));
  const rates = ratesOf(scores);
  progress(`${directory}: ${JSON.stringify(rates)}, corpus loss ${loss.toFixed(3)}`);
  return { scores, rates, corpusLoss: loss };
}

async function runSeed(
  stage: Stage,
  base: string,
  work: string,
  sizes: { readonly prompts: number; readonly iterations: number },
): Promise<SeedReport> {
  const started = performance.now();
  const at = (name: string): string => join(work, `seed-${stage.seed}`, name);
  const { prompts, iterations } = sizes;
  const baseReport = await measure(stage, base, prompts);
  await supervise(stage, base, at('sft'));
  const sft = await measure(stage, at('sft'), prompts);
  const reward = await rank(stage, at('sft'), at('reward'), REWARD);
  progress(`reward model: ${percent(reward['prompts.accuracy']!)} of held-out pairs`);
  const places = (output: string, from = 'reward') => ({
    sft: at('sft'),
    reward: at(from),
    output: at(output),
  });
  const ppo = await optimise(stage, places('ppo'), { iterations, kl: KL, pretraining: 0 });
  progress(`PPO: ${curveSummary(ppo)}`);
  const ppoReport = await measure(stage, at('ppo'), prompts);
  const ptx = await optimise(stage, places('ppo-ptx'), { iterations, kl: KL, pretraining: PTX });
  progress(`PPO-ptx: ${curveSummary(ptx)}`);
  const ptxReport = await measure(stage, at('ppo-ptx'), prompts);
  await rank(stage, at('sft'), at('small-reward'), SMALL_REWARD);
  const freed = await optimise(stage, places('freed', 'small-reward'), { iterations, kl: 0, pretraining: 0 });
  progress(`KL off, small reward model: ${curveSummary(freed)}`);
  return {
    stages: { base: baseReport, sft, ppo: ppoReport, ppo_ptx: ptxReport },
    reward,
    ppo,
    ptx,
    freed,
    minutes: (performance.now() - started) / 60_000,
  };
}

/** Proxy and gold score of the first and the last eighth of a run. */
function curveSummary({ curve }: PolicyReport): string {
  const part = Math.ceil(curve.length / 8);
  const meanOf = (points: PolicyReport['curve'], of: 'proxy' | 'gold') =>
    (points.reduce((sum, point) => sum + point[of], 0) / points.length).toFixed(3);
  return (['proxy', 'gold'] as const)
    .map((of) => `${of} ${meanOf(curve.slice(0, part), of)} -> ${meanOf(curve.slice(-part), of)}`)
    .join(', ');
}

function printWins(reports: ReadonlyMap<number, SeedReport>): void {
  table([
    'seed',
    'SFT over base',
    'PPO over SFT',
    'PPO-ptx over SFT',
    'held-out pairs that the reward model ranks right',
  ]);
  for (const [seed, { stages, reward }] of reports) {
    const over = (candidate: StageName, baseline: StageName) =>
      interval(winRate(stages[candidate].scores, stages[baseline].scores));
    const accuracy = {
      rate: reward['prompts.accuracy']!,
      low: reward['prompts.accuracyLow']!,
      high: reward['prompts.accuracyHigh']!,
    };
    row([seed, over('sft', 'base'), over('ppo', 'sft'), over('ppo_ptx', 'sft'), interval(accuracy)]);
  }
}

function printStages(reports: ReadonlyMap<number, SeedReport>): void {
  table([
    'seed',
    'stage',
    'gold score',
    'helpful',
    'made up',
    'harmful or rude',
    'corpus loss, nats a token',
  ]);
  for (const [seed, { stages }] of reports)
    for (const [name, { rates, corpusLoss }] of Object.entries(stages))
      row([
        seed,
        name,
        rates.gold.toFixed(3),
        rates.helpful.toFixed(3),
        percent(rates.madeUp),
        percent(rates.harmful),
        corpusLoss.toFixed(3),
      ]);
}

/** KL off, a reward model of few rankings: what PPO sees goes up, what people would say goes down. */
function printOverOptimisation(reports: ReadonlyMap<number, SeedReport>): void {
  table(['seed', 'iteration', 'proxy score', 'gold score']);
  for (const [seed, { freed }] of reports)
    for (const [at, { proxy, gold }] of freed.curve.entries())
      if (at % Math.ceil(freed.curve.length / 8) === 0 || at === freed.curve.length - 1)
        row([seed, at + 1, proxy.toFixed(3), gold.toFixed(3)]);
}

function printCosts(reports: ReadonlyMap<number, SeedReport>): void {
  table([
    'seed',
    'minutes',
    'PPO rollout / scoring / update',
    'KL to SFT, nats an answer: PPO, PPO-ptx, KL off',
  ]);
  for (const [seed, { minutes, ppo, ptx, freed }] of reports)
    row([
      seed,
      minutes.toFixed(1),
      ['rolloutShare', 'scoringShare', 'updateShare'].map((name) => percent(ppo.metrics[name]!)).join(' / '),
      [ppo, ptx, freed].map(({ metrics }) => metrics.klK3!.toFixed(2)).join(', '),
    ]);
  console.log(`\npeak memory ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`);
}

export default async function world(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      base: { type: 'string', default: 'models/world-base' },
      seeds: { type: 'string', default: '1,2,3' },
      prompts: { type: 'string', default: '400' },
      iterations: { type: 'string', default: '24' },
      work: { type: 'string' },
    },
  });
  const work = values.work ?? mkdtempSync(join(tmpdir(), 'instructd-world-'));
  const tokenizer = await requireTokenizer(values.base);
  const sizes = { prompts: Number(values.prompts), iterations: Number(values.iterations) };
  using runtime = openRuntime({ provider: 'cpu' });
  const reports = new Map<number, SeedReport>();
  for (const seed of values.seeds.split(',').map(Number))
    reports.set(
      seed,
      await runSeed(stageOf(runtime, seed, values.base, tokenizer), values.base, work, sizes),
    );
  for (const print of [printWins, printStages, printOverOptimisation, printCosts]) print(reports);
  console.log(`models are in ${work}`);
}
