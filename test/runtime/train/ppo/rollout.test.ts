import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { tokenId } from '../../../../src/core/units.js';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import { parseModelConfig } from '../../../../src/models/transformer/model-config.js';
import { layoutOf, loadWeights } from '../../../../src/train/model-weights.js';
import { ParameterArena } from '../../../../src/train/optim/parameter-arena.js';
import { ReferencePolicy } from '../../../../src/train/ppo/reference-policy.js';
import { type RolloutOptions, rollOut } from '../../../../src/train/ppo/rollout.js';
import { RolloutDecoder, type RolloutDecoderOptions } from '../../../../src/train/ppo/rollout-decoder.js';
import { sharedPath, skipWithoutShared } from '../../../shared.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

const MAX_TOKENS = 12;
const LENGTH = 24;
const options: RolloutOptions = { maxTokens: MAX_TOKENS, temperature: 0.7, stopIds: new Set(), seed: 5 };

/** Prompts of different lengths; the third repeats the first, the last has one token. */
const prompts = [[5, 9, 13, 2, 7], [21, 4], [5, 9, 13, 2, 7], [11, 12, 13, 14, 15, 16, 17, 18, 19], [3]].map(
  (ids) => ids.map(tokenId),
);

class Fixture implements Disposable {
  readonly directory: string;
  readonly config;
  readonly arena: ParameterArena;

  constructor(architecture: string) {
    this.directory = sharedPath('reference', architecture);
    this.config = parseModelConfig(JSON.parse(readFileSync(`${this.directory}/config.json`, 'utf8')));
    this.arena = new ParameterArena(runtime, layoutOf(this.config, ['language']));
    loadWeights(this.directory, this.arena);
  }

  decoder(rows: number, options: Pick<RolloutDecoderOptions, 'attention'> = {}): RolloutDecoder {
    return new RolloutDecoder(runtime, this.config, this.arena, { rows, length: LENGTH, ...options });
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }
}

for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2']) {
  test(`${architecture}: the sampler's log-probabilities are the trainer's to 1e-4`, {
    skip: skipWithoutShared,
  }, () => {
    using fixture = new Fixture(architecture);
    using decoder = fixture.decoder(prompts.length);
    using trainer = new ReferencePolicy(runtime, fixture.directory, fixture.config, {
      maxTime: LENGTH,
      temperature: options.temperature,
      microBatchRows: 3,
    });
    const episodes = rollOut(decoder, prompts, 0, options)!;
    const expected = trainer.logprobs(episodes);
    let gap = 0;
    for (const [row, { logprobs, response }] of episodes.entries()) {
      assert.equal(response.length, MAX_TOKENS);
      logprobs.forEach((logprob, t) => {
        gap = Math.max(gap, Math.abs(logprob - expected[row]![t]!));
      });
    }
    assert.ok(gap < 1e-4, `largest difference ${gap}`);
    assert.ok(gap > 0, 'two graphs agree to the last bit: is one of them run at all?');
  });
}

for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2']) {
  test(`${architecture}: attention in float16, as CUDA has it, moves logits by less than 1 % of the largest`, {
    skip: skipWithoutShared,
  }, () => {
    using fixture = new Fixture(architecture);
    using exact = fixture.decoder(prompts.length);
    using half = fixture.decoder(prompts.length, { attention: 'float16' });
    const expected = [...exact.prefill(prompts)];
    const actual = [...half.prefill(prompts)];
    const scale = Math.max(...expected.map(Math.abs));
    const error = Math.max(...actual.map((value, at) => Math.abs(value - expected[at]!)));
    assert.ok(error > 0 && error < 0.01 * scale, `${error} of ${scale}`);
  });
}

test('a response depends on its episode and prompt alone, not on the rows beside it', {
  skip: skipWithoutShared,
}, () => {
  using fixture = new Fixture('llama');
  using wide = fixture.decoder(5);
  using narrow = fixture.decoder(2);
  const together = rollOut(wide, prompts, 100, options)!;
  const apart = [0, 2, 4].flatMap(
    (from) => rollOut(narrow, prompts.slice(from, from + 2), 100 + from, options)!,
  );
  assert.deepEqual(
    apart.map(({ response }) => response),
    together.map(({ response }) => response),
  );
  assert.notDeepEqual(together[0]!.response, together[2]!.response, 'a repeated prompt has its own stream');
});

test('a stop token ends its row and no other, and is part of the response', {
  skip: skipWithoutShared,
}, () => {
  using fixture = new Fixture('llama');
  using decoder = fixture.decoder(prompts.length);
  const free = rollOut(decoder, prompts, 0, options)!;
  const stop = free[1]!.response[3]!;
  const stopped = rollOut(decoder, prompts, 0, { ...options, stopIds: new Set([stop]) })!;
  for (const [row, { response, isEnded }] of stopped.entries()) {
    const at = free[row]!.response.indexOf(stop);
    assert.equal(isEnded, at >= 0);
    assert.deepEqual(response, at >= 0 ? free[row]!.response.slice(0, at + 1) : free[row]!.response);
  }
  assert.equal(stopped[1]!.isEnded, true);
  assert.ok(stopped.some(({ isEnded }) => !isEnded));
});

test('the sampler sees a weight that has changed, in every architecture', { skip: skipWithoutShared }, () => {
  for (const architecture of ['llama', 'qwen3', 'gpt2']) {
    using fixture = new Fixture(architecture);
    using decoder = fixture.decoder(1);
    const before = decoder.prefill([prompts[0]!]).slice();
    const name =
      architecture === 'gpt2'
        ? 'transformer.h.0.attn.c_attn.weight'
        : 'model.layers.0.self_attn.v_proj.weight';
    const view = fixture.arena.view(name);
    const values = new Float32Array(view.byteLength / 4);
    view.read(values);
    view.write(values.map((x) => 1.5 * x));
    const after = decoder.prefill([prompts[0]!]);
    assert.ok(
      after.some((logit, i) => Math.abs(logit - before[i]!) > 1e-3),
      architecture,
    );
  }
});

test('NaN weights give no episodes', { skip: skipWithoutShared }, () => {
  using fixture = new Fixture('llama');
  using decoder = fixture.decoder(1);
  fixture.arena.view('model.norm.weight').write(new Float32Array(fixture.config.hidden).fill(Number.NaN));
  assert.equal(rollOut(decoder, [prompts[0]!], 0, options), null);
});
