import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { GraphBuilder } from '../../../src/models/graph/builder.js';
import { openRuntime } from '../../../src/models/runtime/open-runtime.js';
import { type ModelConfig, parseModelConfig } from '../../../src/models/transformer/model-config.js';
import {
  decode,
  decodePicked,
  decoderAxes,
  type PickedHidden,
  type PickedIndices,
  type Tokens,
} from '../../../src/train/differentiable-decoder.js';
import { languageHead, pick, targetLogprobs } from '../../../src/train/loss-heads.js';
import { negativeLogLikelihood } from '../../../src/train/losses.js';
import { layoutOf, loadWeights } from '../../../src/train/model-weights.js';
import { ParameterArena } from '../../../src/train/optim/parameter-arena.js';
import { type LossGraph, LossSession } from '../../../src/train/step.js';
import { sharedPath, skipWithoutShared } from '../../shared.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

const TIME = 8;
type States = (g: GraphBuilder, config: ModelConfig, tokens: Tokens, picked: PickedIndices) => PickedHidden;

const all: States = (g, config, tokens, picked) => pick(decode(g, config, tokens, { maxTime: TIME }), picked);
const some: States = (g, config, tokens, picked) =>
  decodePicked(g, config, tokens, picked, { maxTime: TIME });

function lossGraph(config: ModelConfig, states: States): LossGraph {
  const g = new GraphBuilder('picked', decoderAxes(config));
  const tokens = g.input('tokens', 'int64', ['rows', 'time']);
  const hidden = states(g, config, tokens, g.input('picked', 'int64', ['picked']));
  const logprobs = targetLogprobs(languageHead(g, config, hidden), g.input('targets', 'int64', ['picked']));
  const loss = negativeLogLikelihood(logprobs, g.input('weights', 'float32', ['picked']));
  return { builder: g, loss, readings: { logprobs } };
}

const int64 = (values: readonly number[], shape: readonly number[] = [values.length]) =>
  ({ type: 'int64', shape, data: BigInt64Array.from(values, BigInt) }) as const;

const feeds = {
  tokens: int64([5, 9, 2, 7, 7, 1, 3, 8, 4, 6, 11, 2, 0, 0, 0, 0], [2, TIME]),
  picked: int64([3, 4, 6, 8, 10]),
  targets: int64([7, 1, 8, 6, 2]),
  weights: { type: 'float32', shape: [5], data: new Float32Array(5).fill(0.2) } as const,
};

for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2']) {
  test(`${architecture}: leaving out what no loss reads changes no log-probability and no gradient`, {
    skip: skipWithoutShared,
  }, () => {
    const directory = sharedPath('reference', architecture);
    const config = parseModelConfig(JSON.parse(readFileSync(`${directory}/config.json`, 'utf8')));
    const layout = layoutOf(config, ['language']);
    using parameters = new ParameterArena(runtime, layout);
    loadWeights(directory, parameters);
    const results = [all, some].map((states) => {
      using session = new LossSession(runtime, lossGraph(config, states), layout);
      using gradients = new ParameterArena(runtime, layout);
      const { logprobs } = session.run(feeds, parameters, gradients, { logprobs: 5 });
      const flat = new Float32Array(layout.length);
      gradients.read(flat);
      return { logprobs: logprobs!, flat };
    });
    const [whole, picked] = results as [(typeof results)[0], (typeof results)[0]];
    const difference = (a: Float32Array, b: Float32Array) =>
      a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);
    const largest = whole.flat.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    assert.ok(difference(whole.logprobs, picked.logprobs) < 1e-5);
    assert.ok(difference(whole.flat, picked.flat) < 1e-5 * largest);
    assert.ok(largest > 0.01);
  });
}
