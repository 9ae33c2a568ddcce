/**
 * Where an engine's time goes, without threads and sockets: decode and prefill tokens a second, and the share of a step that is not the
 * native run.
 *   npm run bench -- engine CHECKPOINT_DIRECTORY [float32,int8,int4]
 */

import { mkdirSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError } from '../src/core/errors.js';
import { tokenId } from '../src/core/units.js';
import { DecoderRunner } from '../src/models/engine/decoder-runner.js';
import type { EngineOptions, GenerateRequest, SamplingOptions } from '../src/models/engine/engine.js';
import { EngineCore } from '../src/models/engine/engine-core.js';
import { type OpenCheckpoint, openCheckpoint } from '../src/models/engine/open-checkpoint.js';
import { greedySampling } from '../src/models/engine/sampler.js';
import type { Quantization } from '../src/models/registry.js';

const options: EngineOptions = {
  slots: 16,
  contextLength: 1280,
  prefillChunk: 512,
  maxQueuedRequests: 64,
  maxQueuedPromptTokens: 1 << 20,
  laneBuffer: 1 << 20,
};

const greedy = greedySampling;

interface Case {
  readonly name: string;
  readonly rows: number;
  readonly context: number;
  readonly tokens: number;
  readonly sampling: SamplingOptions;
}

const cases: readonly Case[] = [
  { name: 'decode, 1 row, context 64', rows: 1, context: 64, tokens: 48, sampling: greedy },
  { name: 'decode, 1 row, context 1024', rows: 1, context: 1024, tokens: 48, sampling: greedy },
  { name: 'decode, 16 rows, context 64', rows: 16, context: 64, tokens: 32, sampling: greedy },
  {
    name: 'decode, 16 rows, context 64, temperature 1',
    rows: 16,
    context: 64,
    tokens: 32,
    sampling: { ...greedy, temperature: 1 },
  },
  {
    name: 'decode, 16 rows, context 64, top_p 0.9',
    rows: 16,
    context: 64,
    tokens: 32,
    sampling: { ...greedy, temperature: 1, topP: 0.9 },
  },
  { name: 'prefill 512', rows: 1, context: 512, tokens: 1, sampling: greedy },
];

const quantizations: Readonly<Record<string, Quantization>> = { float32: 'none', int8: 'int8', int4: 'int4' };

/** Native time of every run, taken where the binding is. */
function timeRuns({ decoder }: OpenCheckpoint): { milliseconds: number } {
  const native = { milliseconds: 0 };
  const create = decoder.session.createBinding.bind(decoder.session);
  decoder.session.createBinding = (bindingOptions) => {
    const binding = create(bindingOptions);
    const run = binding.run.bind(binding);
    binding.run = () => {
      const started = performance.now();
      run();
      native.milliseconds += performance.now() - started;
    };
    return binding;
  };
  return native;
}

function measure(
  core: EngineCore,
  native: { milliseconds: number },
  { rows, context, tokens, sampling }: Case,
) {
  const lanes = Array.from({ length: rows }, () => Math.floor(Math.random() * 2 ** 40));
  for (const [row, lane] of lanes.entries()) {
    const request: GenerateRequest = {
      // No two prompts share a prefix, so that nothing comes from the cache.
      prompt: Array.from({ length: context }, (_, at) => tokenId((lane + row + at * 7919) % 40_000)),
      maxTokens: tokens,
      sampling: { ...sampling, seed: BigInt(row) },
      stopIds: new Set(),
      logprobs: null,
      promptLogprobs: false,
      sequences: 1,
    };
    core.add(lane, request);
  }
  const isPrefill = tokens === 1;
  while (!isPrefill && core.stats.generationTokens % (rows * tokens) < rows) core.step();
  const before = core.stats;
  native.milliseconds = 0;
  const started = performance.now();
  while (core.step()) core.takeReports();
  const elapsed = performance.now() - started;
  const after = core.stats;
  const done = isPrefill
    ? after.promptTokens - before.promptTokens
    : after.generationTokens - before.generationTokens;
  return {
    perSecond: (done / elapsed) * 1000,
    stepMs: elapsed / (after.steps - before.steps),
    outside: 1 - native.milliseconds / elapsed,
  };
}

export default async function run([
  directory,
  forms = 'float32,int8,int4',
]: readonly string[]): Promise<void> {
  if (directory === undefined) {
    throw new AppError('invalid_value', 'Give the directory of a checkpoint: npm run bench -- engine DIR');
  }
  const cacheDirectory = join(tmpdir(), 'instructd-bench-cache');
  mkdirSync(cacheDirectory, { recursive: true });
  for (const form of forms.split(',')) {
    const quantization = quantizations[form];
    if (quantization === undefined) throw new AppError('invalid_value', `No weight form '${form}'.`);
    const source = { directory, quantization, contentHash: directory, cacheDirectory };
    const runtime = { provider: 'cpu', threads: availableParallelism() } as const;
    const opened = openCheckpoint(source, runtime, options.contextLength);
    const native = timeRuns(opened);
    const runner = new DecoderRunner(
      opened,
      opened.decoder.config.vocabulary,
      { ...options, stepShapes: 'ranges' },
      opened.version,
    );
    using core = new EngineCore(runner, options, () => performance.now());
    for (const each of cases) {
      const { perSecond, stepMs, outside } = measure(core, native, each);
      console.log(
        `${form.padEnd(8)} ${each.name.padEnd(46)} ${perSecond.toFixed(1).padStart(7)} tok/s  ` +
          `${stepMs.toFixed(2).padStart(7)} ms a step  ${(100 * outside).toFixed(1).padStart(5)} % outside the run`,
      );
    }
  }
}
