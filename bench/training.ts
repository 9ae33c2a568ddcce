/**
 * Training steps against the machine: FLOP/s of a world-sized decoder's step as a share of what a matrix product reaches in the same run,
 * and tokens/s of a checkpoint (SmolLM2-135M: 4 x 128 tokens). Peer: bench/peers/torch_sft.py.
 *   npm run bench -- training [--model DIR] [--threads N]
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Rng } from '../src/core/rng.js';
import { GraphBuilder } from '../src/models/graph/builder.js';
import { encodeModel } from '../src/models/graph/onnx.js';
import { matmul } from '../src/models/graph/ops.js';
import { openRuntime } from '../src/models/runtime/open-runtime.js';
import type { Runtime } from '../src/models/runtime/session.js';
import { type ModelConfig, parseModelConfig } from '../src/models/transformer/model-config.js';
import { floatFeed, languageFeeds, languageLossGraph } from '../src/train/language-loss.js';
import { loadWeights } from '../src/train/model-weights.js';
import type { ParameterArena } from '../src/train/optim/parameter-arena.js';
import { type Feeds, LossSession } from '../src/train/step.js';
import { Trainable } from '../src/train/trainable.js';
import { baseConfig } from '../src/world/base-model.js';

const RUNS = 20;

/** Fastest of some runs after one that warms up, seconds. */
function fastest(body: () => void): number {
  body();
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < RUNS; run++) {
    const started = performance.now();
    body();
    best = Math.min(best, (performance.now() - started) / 1000);
  }
  return best;
}

/** Products of a world-sized step: tokens x inner x columns. Powers of two alone are slow, as rows of a matrix then share cache lines. */
const productShapes = [
  [2048, 160, 448],
  [2048, 448, 160],
  [1536, 576, 576],
  [1024, 1024, 1024],
] as const;

/** FLOP/s of one float32 product. */
function productFlops(runtime: Runtime, [rows, inner, columns]: readonly [number, number, number]): number {
  const g = new GraphBuilder('product', { rows, inner, columns });
  const x = g.input('x', 'float32', ['rows', 'inner']);
  g.output('y', matmul(x, g.input('w', 'float32', ['inner', 'columns'])));
  using session = runtime.openSession(encodeModel(g.build()));
  using left = runtime.allocate('float32', [rows, inner]);
  using right = runtime.allocate('float32', [inner, columns]);
  using result = runtime.allocate('float32', [rows, columns]);
  using binding = session.createBinding();
  binding.bindInput('x', left);
  binding.bindInput('w', right);
  binding.bindOutput('y', result);
  return (2 * rows * inner * columns) / fastest(() => binding.run());
}

/** Rows of `time` positions that each learn the token after them. */
function randomFeeds(config: ModelConfig, [rows, time]: readonly [number, number]): Feeds {
  const rng = new Rng(1);
  const row = () => Int32Array.from({ length: time + 1 }, () => rng.below(config.vocabulary));
  const { feeds, picked } = languageFeeds(Array.from({ length: rows }, () => ({ tokens: row(), start: 1 })));
  return { ...feeds, weights: floatFeed(new Float32Array(picked).fill(1 / picked)) };
}

/** Adam's moments divide by what they have seen, so weights must be numbers that a model could have. */
function randomWeights(parameters: ParameterArena): void {
  const rng = new Rng(2);
  for (const { name, shape, length } of parameters.layout.entries)
    parameters
      .view(name)
      .write(Float32Array.from({ length }, () => (shape.length === 1 ? 1 : 0.02 * rng.normal())));
}

interface StepTime {
  readonly forwardBackward: number;
  readonly optimizer: number;
  readonly parameters: number;
}

function timeStep(
  runtime: Runtime,
  config: ModelConfig,
  [rows, time]: readonly [number, number],
  fill: (parameters: ParameterArena) => void,
): StepTime {
  using session = new LossSession(runtime, languageLossGraph(config, { maxTime: time + 1 }));
  using model = new Trainable(runtime, config, session.layout, {
    optimizer: {
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
      epsilonForm: 'torch',
      weightDecay: 0.1,
      clipNorm: 1,
    },
    averageDecay: null,
  });
  fill(model.parameters);
  const feeds = randomFeeds(config, [rows, time]);
  const forwardBackward = fastest(() => session.run(feeds, model.parameters, model.gradients));
  const optimizer = fastest(() => model.step(1e-6));
  return { forwardBackward, optimizer, parameters: model.layout.parameters };
}

const giga = (flops: number): string => `${(flops / 1e9).toFixed(1)} GFLOP/s`;
const milliseconds = (seconds: number): string => `${(seconds * 1000).toFixed(1)} ms`;

function report(what: string, step: StepTime, [rows, time]: readonly [number, number], peak: number): void {
  const seconds = step.forwardBackward + step.optimizer;
  const flops = (6 * step.parameters * rows * time) / seconds;
  console.log(
    `${what}, ${rows} x ${time} tokens: step ${milliseconds(seconds)} (optimizer ${((100 * step.optimizer) / seconds).toFixed(1)} %), ` +
      `${((rows * time) / seconds).toFixed(0)} tokens/s, ${giga(flops)} = ${((100 * flops) / peak).toFixed(0)} % of the best product's`,
  );
}

export default async function training(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: { model: { type: 'string' }, threads: { type: 'string' } },
  });
  using runtime = openRuntime({
    provider: 'cpu',
    ...(values.threads === undefined ? {} : { threads: Number(values.threads) }),
  });
  const products = productShapes.map((shape) => [shape.join(' x '), productFlops(runtime, shape)] as const);
  for (const [shape, flops] of products) console.log(`a product ${shape}: ${giga(flops)}`);
  const peak = Math.max(...products.map(([, flops]) => flops));
  const world = parseModelConfig(baseConfig);
  for (const shape of [
    [8, 256],
    [32, 64],
  ] as const)
    report('world base', timeStep(runtime, world, shape, randomWeights), shape, peak);
  if (values.model === undefined) return;
  const config = parseModelConfig(JSON.parse(readFileSync(join(values.model, 'config.json'), 'utf8')));
  const directory = values.model;
  const step = timeStep(runtime, config, [4, 128], (parameters) => loadWeights(directory, parameters));
  report(directory, step, [4, 128], peak);
}
