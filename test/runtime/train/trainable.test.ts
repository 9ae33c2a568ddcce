import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Rng } from '../../../src/core/rng.js';
import { openRuntime } from '../../../src/models/runtime/open-runtime.js';
import { readModelConfig } from '../../../src/models/transformer/load-decoder.js';
import { floatFeed, languageFeeds, languageLossGraph } from '../../../src/train/language-loss.js';
import { freshScalarHead, type HeadName, layoutOf, loadWeights } from '../../../src/train/model-weights.js';
import { LossSession } from '../../../src/train/step.js';
import { StateStore } from '../../../src/train/train-state.js';
import { Trainable } from '../../../src/train/trainable.js';
import { instructGptAdam } from '../../../src/train/training-job.js';
import { sharedPath, skipWithoutShared } from '../../shared.js';
import { randomExamples, scratchDirectory } from './tiny-training.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

function openTiny(heads: readonly HeadName[], averageDecay: number | null = null): Trainable {
  const directory = sharedPath('reference', 'llama');
  const config = readModelConfig(directory);
  const model = new Trainable(runtime, config, layoutOf(config, heads), {
    optimizer: instructGptAdam,
    averageDecay,
  });
  loadWeights(directory, model.parameters, freshScalarHead('value', new Rng(1)));
  model.startAverage();
  return model;
}

function batch(seed: number) {
  const { feeds, picked } = languageFeeds(randomExamples(4, seed));
  return { ...feeds, weights: floatFeed(new Float32Array(picked).fill(1 / picked)) };
}

const numbersOf = (model: Trainable, part: 'parameters' | 'gradients') => model[part].flat.host!.slice();

describe('a model in training', { skip: skipWithoutShared }, () => {
  test('its average is decay times itself plus the rest of the new weights, from the first weights on', () => {
    using model = openTiny(['language'], 0.75);
    using session = new LossSession(runtime, languageLossGraph(model.config, { maxTime: 64 }), model.layout);
    let expected = numbersOf(model, 'parameters');
    for (const seed of [1, 2, 3]) {
      model.accumulate(session, batch(seed));
      model.step(1e-2);
      const weights = numbersOf(model, 'parameters');
      expected = expected.map((average, i) => 0.75 * average + 0.25 * weights[i]!);
    }
    const found = model.result.flat.host!;
    assert.notDeepEqual(found.slice(), numbersOf(model, 'parameters'));
    assert.ok(found.every((x, i) => Math.abs(x - expected[i]!) < 1e-6));
  });

  test('a graph without a head adds nothing to that head, whatever an earlier step left there', () => {
    using model = openTiny(['language', 'value']);
    using session = new LossSession(runtime, languageLossGraph(model.config, { maxTime: 64 }), model.layout);
    model.gradients.flat.host!.fill(7);
    for (const seed of [1, 2, 3]) model.accumulate(session, batch(seed));
    for (const name of ['value.weight', 'value.bias'])
      assert.ok(
        model.gradients.view(name).host!.every((x) => x === 0),
        name,
      );
    assert.ok(model.gradients.view('model.norm.weight').host!.every((x) => x !== 0 && x !== 7));
  });

  test('a gradient that is not finite moves neither weights, moments nor average', () => {
    using model = openTiny(['language'], 0.9);
    using session = new LossSession(runtime, languageLossGraph(model.config, { maxTime: 64 }), model.layout);
    const before = numbersOf(model, 'parameters');
    model.accumulate(session, batch(1));
    model.gradients.flat.host![5] = Number.NaN;
    assert.ok(Number.isNaN(model.step(1e-2).gradientNorm));
    assert.deepEqual(numbersOf(model, 'parameters'), before);
    assert.equal(model.optimizer.steps, 0);
    assert.ok(model.optimizer.first.flat.host!.every((x) => x === 0));
    assert.deepEqual(model.result.flat.host!.slice(), before);
  });

  test("a state keeps a trainer's numbers and buffers of every type, and a partial file is cleared away", () => {
    const directory = scratchDirectory();
    writeFileSync(join(directory, '.step-00000009.safetensors.1.2.partial'), 'half');
    const store = new StateStore(directory, 2);
    assert.deepEqual(readdirSync(directory), []);
    using model = openTiny(['language']);
    model.optimizer.steps = 17;
    const values = { cursor: 3, kl: 0.1 + 0.2, list: [1, null, 'a'] };
    const buffers = {
      floats: Float32Array.of(1.5, -0),
      doubles: Float64Array.of(Math.PI),
      ids: Int32Array.of(-1, 2 ** 31 - 1),
      bytes: Uint8Array.of(0, 255, 7),
    };
    for (const step of [1, 2, 3]) store.save({ step, run: 'a', models: { model }, values, buffers });
    assert.deepEqual(store.steps, [2, 3]);
    using other = openTiny(['language']);
    other.parameters.fillZero();
    using saved = store.openLatest('a')!;
    saved.restore('model', other);
    assert.deepEqual([saved.step, saved.values, other.optimizer.steps], [3, values, 17]);
    assert.deepEqual(numbersOf(other, 'parameters'), numbersOf(model, 'parameters'));
    for (const [name, buffer] of Object.entries(buffers)) assert.deepEqual(saved.buffer(name), buffer);
    assert.equal(saved.buffer('absent'), null);
    assert.throws(() => store.openLatest('b'), { code: 'run_mismatch' });
  });
});
