import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import { readModelConfig } from '../../../../src/models/transformer/load-decoder.js';
import { byLayer } from '../../../../src/train/autodiff/recompute.js';
import { dropoutFeeds, dropoutResidual } from '../../../../src/train/dropout.js';
import { floatFeed, languageFeeds, languageLossGraph } from '../../../../src/train/language-loss.js';
import { layoutOf, loadWeights } from '../../../../src/train/model-weights.js';
import { ParameterArena } from '../../../../src/train/optim/parameter-arena.js';
import { LossSession } from '../../../../src/train/step.js';
import { sharedPath, skipWithoutShared } from '../../../shared.js';
import { randomExamples } from '../tiny-training.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

describe('layers computed again in the backward pass', { skip: skipWithoutShared }, () => {
  for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2'])
    test(`${architecture}: the gradient is that of layers that are kept, dropout included`, () => {
      const directory = sharedPath('reference', architecture);
      const config = readModelConfig(directory);
      const layout = layoutOf(config, ['language']);
      using parameters = new ParameterArena(runtime, layout);
      loadWeights(directory, parameters);
      const rows = randomExamples(6, 1);
      const { feeds, picked, time } = languageFeeds(rows);
      const masks = dropoutFeeds(config, { rate: 0.2, seed: 1, step: 0, rows: [...rows.keys()], time });
      const weights = floatFeed(new Float32Array(picked).fill(1 / picked));
      const gradientOf = (recomputed: boolean) => {
        const graph = languageLossGraph(config, { maxTime: 64, residual: dropoutResidual });
        const segments = recomputed ? { segmentOf: byLayer } : {};
        using session = new LossSession(runtime, { ...graph, ...segments }, layout);
        using gradients = new ParameterArena(runtime, layout);
        const { loss } = session.run({ ...feeds, ...masks, weights }, parameters, gradients);
        return { loss: loss![0]!, gradient: gradients.flat.host!.slice(), nodes: graph.builder.nodes.length };
      };
      const [kept, again] = [gradientOf(false), gradientOf(true)];
      assert.ok(again.nodes > 1.15 * kept.nodes, `${again.nodes} nodes, ${kept.nodes} without`);
      assert.equal(again.loss, kept.loss);
      const largest = kept.gradient.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      const error = again.gradient.reduce((most, x, i) => Math.max(most, Math.abs(x - kept.gradient[i]!)), 0);
      assert.ok(largest > 0.01 && error < 1e-6 * largest, `${error / largest}`);
    });
});
