/**
 * Makes the bundled base model: its tokenizer and a language model on the web of src/world, by the trainer that SFT uses.
 *   npm run pretrain -- [--output models/world-base] [--tokens 2400000] [--seed 1] [--work DIR]
 * Bit for bit the same on one machine. Stopped by SIGINT or killed, it goes on from its last checkpoint in the work directory.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openRuntime } from '../src/models/runtime/open-runtime.js';
import { trainBpe } from '../src/models/tokenizer/bpe-trainer.js';
import { loadTokenizer } from '../src/models/tokenizer/load-tokenizer.js';
import { parseModelConfig } from '../src/models/transformer/model-config.js';
import type { Example } from '../src/train/data/examples.js';
import { packDocuments } from '../src/train/data/packing.js';
import type { TrainEvent } from '../src/train/events.js';
import { writeFreshWeights } from '../src/train/fresh-model.js';
import { type SftOptions, trainSft } from '../src/train/sft.js';
import { instructGptAdam } from '../src/train/training-job.js';
import { baseConfig, baseTokenizerOptions, endOfText } from '../src/world/base-model.js';
import { worldPretraining } from '../src/world/corpus.js';

const ROW = baseConfig.max_position_embeddings;
const VALIDATION_SEED = 1_000_003;
const TOKENIZER_DOCUMENTS = 20_000;
/** Documents made and encoded at a time. */
const BATCH_OF_DOCUMENTS = 2_000;

const { values } = parseArgs({
  options: {
    output: { type: 'string', default: 'models/world-base' },
    tokens: { type: 'string', default: '2400000' },
    seed: { type: 'string', default: '1' },
    work: { type: 'string', default: join(tmpdir(), 'instructd-pretrain') },
  },
});
const seed = Number(values.seed);

/** A directory with config, tokenizer and untrained weights: what the trainer starts from. */
function writeUntrained(directory: string): void {
  mkdirSync(directory, { recursive: true });
  const json = (name: string, content: unknown) =>
    writeFileSync(join(directory, name), `${JSON.stringify(content, null, 2)}\n`);
  const documents = worldPretraining(seed, TOKENIZER_DOCUMENTS).map(({ text }) => text);
  const { tokenizerJson } = trainBpe(documents, baseTokenizerOptions);
  const { bos_token_id, eos_token_id } = baseConfig;
  json('config.json', baseConfig);
  json('generation_config.json', { bos_token_id, eos_token_id });
  json('tokenizer.json', tokenizerJson);
  json('tokenizer_config.json', {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: endOfText,
    eos_token: endOfText,
    add_bos_token: false,
    model_max_length: ROW,
  });
  writeFreshWeights(join(directory, 'model.safetensors'), parseModelConfig(baseConfig), seed);
}

/** Rows of the corpus, at least `tokens` of them together. */
async function corpusRows(directory: string, fromSeed: number, tokens: number): Promise<Example[]> {
  const loaded = await loadTokenizer(directory);
  if (loaded === null) throw new Error(`${directory} has no tokenizer`);
  const { tokenizer } = loaded;
  const [end] = tokenizer.endOfText;
  const rows: Example[] = [];
  for (let part = 0; rows.length * ROW < tokens; part++) {
    const documents = worldPretraining(fromSeed * 1_000 + part, BATCH_OF_DOCUMENTS);
    rows.push(
      ...packDocuments(
        documents.map(({ text }) => [...tokenizer.encode(text, 'as_text'), end!]),
        ROW,
      ),
    );
  }
  return rows.slice(0, Math.ceil(tokens / ROW));
}

const options: SftOptions = {
  epochs: 1,
  batchSize: 4,
  microBatchTokens: 4 * ROW,
  learningRate: 2.5e-3,
  schedule: { type: 'cosine', warmUpSteps: 50, finalFraction: 0.02 },
  optimizer: { ...instructGptAdam, weightDecay: 0.1 },
  averageDecay: null,
  seed,
  loss: 'all',
  dropout: 0,
  pretrainingShare: 0,
  selection: 'last',
};

function report(event: TrainEvent): void {
  if (event.type === 'step' && (event.step % 50 === 0 || event.step === event.totalSteps))
    console.log(
      `step ${event.step}/${event.totalSteps} loss ${event.loss.toFixed(4)} rate ${event.learningRate.toExponential(1)} ${event.tokensPerSecond.toFixed(0)} tokens/s`,
    );
  if (event.type === 'evaluation') console.log(`validation loss ${event.metrics.validationLoss?.toFixed(4)}`);
  if (event.type === 'stopped') console.log(`stopped: ${event.message}`);
}

const started = performance.now();
const untrained = join(values.work, 'untrained');
writeUntrained(untrained);
const train = await corpusRows(untrained, seed, Number(values.tokens));
const validation = await corpusRows(untrained, VALIDATION_SEED, 65_536);
console.log(`${train.length} rows of ${ROW} tokens`);
using runtime = openRuntime({ provider: 'cpu' });
const abort = new AbortController();
process.once('SIGINT', () => abort.abort());
const place = {
  model: untrained,
  output: values.output,
  precision: 'bfloat16' as const,
  checkpoints: { directory: join(values.work, 'checkpoints'), everySteps: 100, keep: 1 },
};
const job = { place, options, train, validation, pretraining: [] };
for await (const event of trainSft(runtime, job, { signal: abort.signal })) report(event);
console.log(`${((performance.now() - started) / 60_000).toFixed(1)} minutes`);
