/** Trains a checkpoint for a few steps, exports it in float32 and writes its numbers beside it, for check_export.py. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Rng } from '../../src/core/rng.js';
import { openRuntime } from '../../src/models/runtime/open-runtime.js';
import { readModelConfig } from '../../src/models/transformer/load-decoder.js';
import type { Example } from '../../src/train/data/examples.js';
import { ForwardSession } from '../../src/train/forward.js';
import { languageFeeds, languageForwardGraph, learnedTokens } from '../../src/train/language-loss.js';
import { instructGptReward, trainReward } from '../../src/train/reward.js';
import { rewardForwardGraph, scoreFeeds } from '../../src/train/reward-loss.js';
import { instructGptSft, trainSft } from '../../src/train/sft.js';
import { openTrainable, type TrainingPlace } from '../../src/train/training-job.js';

const [source, target] = process.argv.slice(2);
if (source === undefined || target === undefined) throw new Error('usage: export-logits MODEL_DIR OUT_DIR');

const runtime = openRuntime({ provider: 'cpu' });
const { vocabulary } = readModelConfig(source);
const rng = new Rng(1);
const rows: Example[] = Array.from({ length: 8 }, () => {
  const start = 2 + rng.below(8);
  return {
    tokens: Int32Array.from({ length: start + 1 + rng.below(12) }, () => rng.below(vocabulary)),
    start,
  };
});
const signal = new AbortController().signal;
const common = { epochs: 2, batchSize: 4, learningRate: 1e-4, selection: 'last' } as const;
const placeOf = (name: string): TrainingPlace => ({
  model: source,
  output: join(target, name),
  precision: 'float32',
  checkpoints: null,
});

const language = placeOf('language');
const sft = { ...instructGptSft, ...common, dropout: 0 };
for await (const event of trainSft(
  runtime,
  { place: language, options: sft, train: rows, validation: [], pretraining: [] },
  { signal },
))
  if (event.type === 'step') console.log(`sft step ${event.step}: loss ${event.loss}`);
{
  using model = openTrainable(runtime, language.output, ['language'], sft);
  using session = new ForwardSession(runtime, languageForwardGraph(model.config, { maxTime: 64 }));
  const written = rows.map((row) => {
    const lengths = { logprobs: learnedTokens(row) };
    const { logprobs } = session.run(languageFeeds([row]).feeds, model.parameters, lengths);
    return { tokens: [...row.tokens], start: row.start, logprobs: [...logprobs!] };
  });
  writeFileSync(join(language.output, 'logits.json'), JSON.stringify({ head: 'language', rows: written }));
}

const judge = placeOf('reward');
const options = { ...instructGptReward, ...common };
const train = [
  { sequences: rows.slice(0, 4), ranks: [1, 2, 3, 3] },
  { sequences: rows.slice(4), ranks: [2, 1, 2, 4] },
];
const job = { place: judge, options, train, heldOut: {}, demonstrations: rows };
for await (const event of trainReward(runtime, job, { signal }))
  if (event.type === 'step') console.log(`reward step ${event.step}: loss ${event.loss}`);
{
  using model = openTrainable(runtime, judge.output, ['score'], options);
  using session = new ForwardSession(runtime, rewardForwardGraph(model.config, 64));
  const written = rows.map((row) => {
    const { scores } = session.run(scoreFeeds([row]), model.parameters, { scores: 1 });
    return { tokens: [...row.tokens], score: scores![0]! };
  });
  const bias = new Float32Array(1);
  model.parameters.view('score.bias').read(bias);
  const contents = { head: 'reward', bias: bias[0], rows: written };
  writeFileSync(join(judge.output, 'logits.json'), JSON.stringify(contents));
}
runtime[Symbol.dispose]();
