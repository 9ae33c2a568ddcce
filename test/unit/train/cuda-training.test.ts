import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Axes, Value } from '../../../src/models/graph/ir.js';
import type { ModelConfig } from '../../../src/models/transformer/model-config.js';
import { gradient } from '../../../src/train/autodiff/gradient.js';
import { byLayer } from '../../../src/train/autodiff/recompute.js';
import { dpoLossGraph } from '../../../src/train/dpo-loss.js';
import { dropoutResidual } from '../../../src/train/dropout.js';
import { languageLossGraph } from '../../../src/train/language-loss.js';
import { rewardLossGraph } from '../../../src/train/reward-loss.js';
import type { LossGraph } from '../../../src/train/step.js';
import { architectures, configOf } from '../../architectures.js';
import { hostCopies, missingCudaKernels } from '../../cuda-coverage.js';

const graphs: Readonly<Record<string, (config: ModelConfig) => LossGraph>> = {
  SFT: (config) => languageLossGraph(config, { maxTime: 64, residual: dropoutResidual }),
  reward: (config) => rewardLossGraph(config, 64),
  DPO: (config) => dpoLossGraph(config, { maxTime: 64, beta: 0.1, labelSmoothing: 0.1 }),
  'SFT, layers recomputed': (config) => ({
    ...languageLossGraph(config, { maxTime: 64 }),
    segmentOf: byLayer,
  }),
};

for (const type of Object.keys(architectures) as (keyof typeof architectures)[])
  for (const [name, make] of Object.entries(graphs))
    test(`every node of ${type}'s ${name} step has a CUDA kernel, and none a copy to or from the host`, () => {
      const { builder, loss, readings, segmentOf } = make(configOf(type, {}));
      builder.output('loss', loss);
      for (const [reading, value] of Object.entries(readings)) builder.output(reading, value);
      const parameters = builder.parameters as readonly Value<'float32', Axes>[];
      for (const [i, value] of gradient(builder, loss, parameters, segmentOf).entries())
        builder.output(`gradient ${i}`, value);
      const graph = builder.build();
      assert.deepEqual(missingCudaKernels(graph), []);
      assert.deepEqual(hostCopies(graph), []);
    });
