import assert from 'node:assert/strict';
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { tokenId } from '../../../src/core/units.js';
import { type LoadOptions, loadRewardModel, loadTextModel } from '../../../src/models/load.js';
import type { ModelRecord } from '../../../src/models/registry.js';
import { openRuntime } from '../../../src/models/runtime/open-runtime.js';
import { loadTokenizer } from '../../../src/models/tokenizer/load-tokenizer.js';
import { DecoderPass, logSumExp } from '../../../src/models/transformer/decoder-pass.js';
import { loadDecoder, readModelConfig } from '../../../src/models/transformer/load-decoder.js';
import { bestOfN } from '../../../src/train/best-of-n.js';
import { type Example, ExampleEncoder } from '../../../src/train/data/examples.js';
import { type DatasetKind, parseRow } from '../../../src/train/data/rows.js';
import { createEpochScore } from '../../../src/train/epoch-score.js';
import { exportModel } from '../../../src/train/export-model.js';
import { ForwardSession } from '../../../src/train/forward.js';
import { languageFeeds, languageForwardGraph, learnedTokens } from '../../../src/train/language-loss.js';
import { trainReward } from '../../../src/train/reward.js';
import { trainSft } from '../../../src/train/sft.js';
import { openTrainable, type TrainingPlace } from '../../../src/train/training-job.js';
import { sharedPath, skipWithoutShared } from '../../shared.js';
import { writeTinyCheckpoint } from '../../tiny-checkpoint.js';
import { engineOptions, greedy } from '../models/checkpoints.js';
import { collect, randomExamples, scratchDirectory, sftOptions } from './tiny-training.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

const never = { signal: new AbortController().signal };

const recordOf = (kind: ModelRecord['kind'], directory: string): ModelRecord => ({
  id: directory,
  kind,
  directory,
  quantization: 'none',
  architecture: 'llama',
  parameters: 1,
  contextLength: 256,
  contentHash: directory.replaceAll('/', '-'),
  createdAt: new Date(0),
  source: { type: 'directory', location: directory },
});

const loadOptions = (): LoadOptions => ({
  runtime: { provider: 'cpu', threads: 1 },
  engine: engineOptions,
  cacheDirectory: scratchDirectory(),
});

/** Log-probabilities of the learned tokens by the service's decoder. */
function servedLogprobs(directory: string, rows: readonly Example[]): number[] {
  using decoder = loadDecoder(runtime, directory, {
    form: 'float32',
    cacheDirectory: scratchDirectory(),
    contentHash: directory,
  });
  const { vocabulary } = decoder.config;
  return rows.flatMap(({ tokens, start }) => {
    using pass = new DecoderPass(runtime, decoder, 1, tokens.length);
    const places = Array.from({ length: tokens.length - start }, (_, i) => ({
      row: 0,
      position: start + i - 1,
    }));
    const logits = pass.run([[...tokens]], 0, places);
    return places.map((_, i) => {
      const row = logits.subarray(i * vocabulary, (i + 1) * vocabulary);
      return row[tokens[start + i]!]! - logSumExp(row);
    });
  });
}

describe('an exported model is served as it was trained', { skip: skipWithoutShared }, () => {
  for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2'])
    test(`${architecture}: the service's log-probabilities are the trainer's to 1e-4, and bfloat16 rounds them`, async () => {
      const source = sharedPath('reference', architecture);
      const directory = scratchDirectory();
      const place: TrainingPlace = {
        model: source,
        output: join(directory, 'float32'),
        precision: 'float32',
        checkpoints: null,
      };
      const rows = randomExamples(12, 1);
      const job = { place, options: sftOptions, train: rows, validation: [], pretraining: [] };
      await collect(trainSft(runtime, job, never));
      using model = openTrainable(runtime, place.output, ['language'], sftOptions);
      using session = new ForwardSession(runtime, languageForwardGraph(model.config, { maxTime: 64 }));
      const picked = rows.reduce((sum, row) => sum + learnedTokens(row), 0);
      const { logprobs } = session.run(languageFeeds(rows).feeds, model.parameters, { logprobs: picked });
      const gapOf = (path: string) =>
        servedLogprobs(path, rows).reduce((most, x, i) => Math.max(most, Math.abs(x - logprobs![i]!)), 0);
      const half = join(directory, 'bfloat16');
      exportModel(model.parameters, {
        source,
        directory: half,
        precision: 'bfloat16',
        head: { kind: 'language' },
      });
      assert.ok(gapOf(place.output) < 1e-4, `${gapOf(place.output)}`);
      assert.ok(gapOf(source) > 0.1, 'training moved them');
      assert.ok(gapOf(half) > 1e-4 && gapOf(half) < 0.1, `${gapOf(half)}`);
    });
});

const LIKED = 'yes';
const questions = ['Is it warm?', 'May I come?', 'Shall we go?', 'Do you see?', 'Is it far?', 'Was it you?'];

async function encoderOf(directory: string): Promise<ExampleEncoder> {
  const loaded = (await loadTokenizer(directory))!;
  return new ExampleEncoder({ ...loaded, contextLength: 64 });
}

const row = <K extends DatasetKind>(kind: K, value: unknown) => ({
  line: 1,
  row: parseRow(kind, JSON.stringify(value), 1),
});

/** A judge that likes 'yes', trained on a tiny checkpoint. */
async function trainJudge(): Promise<{
  readonly directory: string;
  readonly demonstrations: readonly Example[];
}> {
  const base = writeTinyCheckpoint(join(scratchDirectory(), 'base'), { seed: 4 });
  const encoder = await encoderOf(base);
  const train = questions.map((prompt) =>
    encoder.comparison(row('comparisons', { prompt, completions: [` ${LIKED}`, ' no!'], ranks: [1, 2] })),
  );
  const demonstrations = questions.map((prompt) =>
    encoder.scored(row('demonstrations', { prompt, completion: ' yes, it is' })),
  );
  const directory = join(scratchDirectory(), 'judge');
  const place: TrainingPlace = { model: base, output: directory, precision: 'float32', checkpoints: null };
  const options = { ...sftOptions, epochs: 20, batchSize: 6, learningRate: 2e-3, selection: 'last' as const };
  await collect(trainReward(runtime, { place, options, train, heldOut: {}, demonstrations }, never));
  return { directory, demonstrations };
}

describe('a trained judge', () => {
  const trained = trainJudge();

  test('is served with scores whose mean over the demonstrations is 0', async () => {
    const { directory, demonstrations } = await trained;
    await using judge = await loadRewardModel(recordOf('reward', directory), loadOptions());
    const sequences = demonstrations.map(({ tokens }) => Array.from(tokens, tokenId));
    const scores = await judge.score(sequences, { tokenValues: false, ...never });
    const mean = scores.reduce((sum, { score }) => sum + score, 0) / scores.length;
    assert.ok(Math.abs(mean) < 1e-4, `${mean}`);
    assert.ok(scores.some(({ score }) => Math.abs(score) > 1e-3));
  });

  test('picks the best of n answers: the highest of its scores, with the KL that this costs', async () => {
    const { directory } = await trained;
    const writer = writeTinyCheckpoint(join(scratchDirectory(), 'writer'), { seed: 9 });
    await using judge = await loadRewardModel(recordOf('reward', directory), loadOptions());
    await using policy = await loadTextModel(recordOf('language', writer), loadOptions());
    const context = { type: 'text', prompt: 'Is it warm?' } as const;
    const sampling = { ...greedy, temperature: 1, seed: 5n };
    const draw = (n: number) => bestOfN(policy, judge, context, { n, maxTokens: 6, sampling, ...never });
    const { best, candidates, kl } = await draw(8);
    assert.equal(candidates.length, 8);
    assert.ok(new Set(candidates.map(({ text }) => text)).size > 1);
    assert.equal(best.score, Math.max(...candidates.map(({ score }) => score)));
    assert.ok(Math.abs(kl - (Math.log(8) - 7 / 8)) < 1e-12);
    assert.deepEqual((await draw(8)).candidates, candidates, 'a seed draws the same answers');
    await assert.rejects(draw(0), { code: 'invalid_value' });
  });

  test('chooses the epoch of a fine-tuning run by what its weights answer', async () => {
    const { directory } = await trained;
    const base = writeTinyCheckpoint(join(scratchDirectory(), 'base'), { seed: 4 });
    const encoder = await encoderOf(base);
    const train = questions.map((prompt) =>
      encoder.demonstration(row('demonstrations', { prompt, completion: ` ${LIKED}` })),
    );
    await using judge = await loadRewardModel(recordOf('reward', directory), loadOptions());
    const scratch = scratchDirectory();
    const score = createEpochScore({
      source: base,
      scratch,
      judge,
      prompts: questions.map((prompt) => ({ type: 'text', prompt })),
      answers: { maxTokens: 4, sampling: greedy, ...never },
      load: { runtime: { provider: 'cpu', threads: 1 }, engine: engineOptions },
    });
    const output = join(scratchDirectory(), 'sft');
    const place: TrainingPlace = { model: base, output, precision: 'float32', checkpoints: null };
    const options = { ...sftOptions, epochs: 12, batchSize: 6, selection: 'score' as const };
    const events = await collect(
      trainSft(runtime, { place, options, train, validation: [], pretraining: [], score }, never),
    );
    const evaluations = events.filter((event) => event.type === 'evaluation');
    const scores = evaluations.map(({ metrics }) => metrics.score!);
    assert.ok(scores.every(Number.isFinite));
    assert.ok(Math.max(...scores) > scores[0]! + 0.1, `${scores}`);
    const chosen = evaluations.findLastIndex(({ best }) => best);
    assert.equal(scores[chosen], Math.max(...scores));
    assert.deepEqual(readdirSync(scratch), [], 'no epoch is left behind');
  });
});

test('an export keeps the tokenizer files and says what its head is', async () => {
  const base = writeTinyCheckpoint(join(scratchDirectory(), 'base'));
  const directory = scratchDirectory();
  using model = openTrainable(runtime, base, ['score'], sftOptions);
  exportModel(model.parameters, {
    source: base,
    directory,
    precision: 'bfloat16',
    head: { kind: 'reward', mean: 0.5 },
  });
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'])
    assert.equal(readFileSync(join(directory, name), 'utf8'), readFileSync(join(base, name), 'utf8'));
  assert.deepEqual(readModelConfig(directory).head, { kind: 'reward', mean: 0.5 });
});

test('a checkpoint with a NaN, or cut short, starts no run', async () => {
  const base = writeTinyCheckpoint(join(scratchDirectory(), 'base'));
  const broken = scratchDirectory();
  cpSync(base, broken, { recursive: true });
  const bytes = readFileSync(join(base, 'model.safetensors'));
  const start = async (content: Uint8Array) => {
    writeFileSync(join(broken, 'model.safetensors'), content);
    const output = join(scratchDirectory(), 'out');
    const place: TrainingPlace = { model: broken, output, precision: 'float32', checkpoints: null };
    const job = { place, options: sftOptions, train: randomExamples(4, 1), validation: [], pretraining: [] };
    await assert.rejects(collect(trainSft(runtime, job, never)), { code: 'checkpoint_invalid' });
    assert.ok(!existsSync(output));
  };
  await start(bytes.subarray(0, bytes.length - 100));
  const poisoned = Buffer.from(bytes);
  poisoned.writeFloatLE(Number.NaN, poisoned.length - 4);
  await start(poisoned);
});
