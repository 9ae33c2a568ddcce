import assert from 'node:assert/strict';
import { after, mock, test } from 'node:test';
import { GraphBuilder } from '../../../src/models/graph/builder.js';
import type { Graph } from '../../../src/models/graph/ir.js';
import { openRuntime } from '../../../src/models/runtime/open-runtime.js';
import type { ModelConfig } from '../../../src/models/transformer/model-config.js';
import { answerForwardGraph, dpoLossGraph } from '../../../src/train/dpo-loss.js';
import { dropoutResidual } from '../../../src/train/dropout.js';
import { ForwardSession } from '../../../src/train/forward.js';
import { languageForwardGraph, languageLossGraph } from '../../../src/train/language-loss.js';
import { layoutOf } from '../../../src/train/model-weights.js';
import { AdamW } from '../../../src/train/optim/adamw.js';
import { ParameterArena } from '../../../src/train/optim/parameter-arena.js';
import { WeightAverage } from '../../../src/train/optim/weight-average.js';
import {
  logprobGraph,
  policyGraph,
  pretrainingGraph,
  scalarGraph,
  sharedTrunkGraph,
  valueGraph,
} from '../../../src/train/ppo/ppo-graphs.js';
import { RolloutDecoder } from '../../../src/train/ppo/rollout-decoder.js';
import { rewardForwardGraph, rewardLossGraph } from '../../../src/train/reward-loss.js';
import { GradientSum, LossSession } from '../../../src/train/step.js';
import { architectures, configOf } from '../../architectures.js';
import { hostCopies, missingCudaKernels } from '../../cuda-coverage.js';

const runtime = openRuntime({ provider: 'cpu', threads: 1 });
after(() => runtime[Symbol.dispose]());

/** The graphs that are built while `open` runs, as they go to ONNX Runtime. */
function graphsOf(open: () => Disposable): Graph[] {
  const build = mock.method(GraphBuilder.prototype, 'build');
  try {
    open()[Symbol.dispose]();
    return build.mock.calls.map(({ result }) => result as Graph);
  } finally {
    build.mock.restore();
  }
}

function assertRunsOnCuda(open: () => Disposable, graphs: number): void {
  const built = graphsOf(open);
  assert.equal(built.length, graphs);
  for (const graph of built) {
    assert.deepEqual(missingCudaKernels(graph), [], graph.name);
    assert.deepEqual(hostCopies(graph), [], graph.name);
  }
}

const maxTime = 32;
const policy = { maxTime, temperature: 0.7 };
const losses = {
  SFT: (config: ModelConfig) => languageLossGraph(config, { maxTime, residual: dropoutResidual }),
  'reward model': (config: ModelConfig) => rewardLossGraph(config, maxTime),
  DPO: (config: ModelConfig) => dpoLossGraph(config, { maxTime, beta: 0.1, labelSmoothing: 0.1 }),
  'PPO policy': (config: ModelConfig) => policyGraph(config, policy, 0.2),
  'PPO value': (config: ModelConfig) => valueGraph(config, policy, { clip: 0.2, coefficient: 0.5 }),
  'PPO on one trunk': (config: ModelConfig) =>
    sharedTrunkGraph(config, policy, { policy: 0.2, value: 0.2, coefficient: 0.1 }),
  'PPO-ptx': (config: ModelConfig) => pretrainingGraph(config, policy),
};
const passes = {
  validation: (config: ModelConfig) => languageForwardGraph(config, { maxTime }),
  'reward validation': (config: ModelConfig) => rewardForwardGraph(config, maxTime),
  'answer log-probabilities': (config: ModelConfig) => answerForwardGraph(config, maxTime),
  'reference log-probabilities': (config: ModelConfig) => logprobGraph(config, policy),
  values: (config: ModelConfig) => scalarGraph(config, 'value', policy),
};

for (const type of Object.keys(architectures) as (keyof typeof architectures)[]) {
  for (const [name, graph] of Object.entries(losses))
    test(`${type}: forward and backward of ${name} in float32 have CUDA kernels alone, and no copy to or from the host`, () =>
      assertRunsOnCuda(() => new LossSession(runtime, graph(configOf(type))), 1));
  test(`${type}: rollouts of a float32 trainer, with attention in float16, have CUDA kernels alone, and no copy to or from the host`, () => {
    using arena = new ParameterArena(runtime, layoutOf(configOf(type), ['language']));
    const options = { rows: 2, length: 16, attention: 'float16' } as const;
    assertRunsOnCuda(() => new RolloutDecoder(runtime, configOf(type), arena, options), 1);
  });
  for (const [name, graph] of Object.entries(passes))
    test(`${type}: the pass for ${name} in float32 has CUDA kernels alone, and no copy to or from the host`, () =>
      assertRunsOnCuda(() => new ForwardSession(runtime, graph(configOf(type))), 1));
}

test('the optimizer, the gradient norm, the sum of gradients and the weight average have CUDA kernels alone', () => {
  using session = new LossSession(runtime, pretrainingGraph(configOf('llama'), policy));
  using weights = new ParameterArena(runtime, session.layout);
  const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-5, weightDecay: 0.1, clipNorm: 1 };
  assertRunsOnCuda(() => new AdamW(runtime, session.layout, { ...options, epsilonForm: 'torch' }), 2);
  assertRunsOnCuda(() => new GradientSum(runtime), 1);
  assertRunsOnCuda(() => new WeightAverage(runtime, weights, 0.992), 1);
});
