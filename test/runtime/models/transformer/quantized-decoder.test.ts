import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import type { WeightForm } from '../../../../src/models/transformer/decoder.js';
import { DecoderPass, logSumExp } from '../../../../src/models/transformer/decoder-pass.js';
import { loadDecoder } from '../../../../src/models/transformer/load-decoder.js';
import { sharedPath, skipWithoutShared } from '../../../shared.js';
import { smollm2Record } from '../checkpoints.js';

const cacheDirectory = mkdtempSync(join(tmpdir(), 'instructd-quantized-'));
const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => {
  runtime[Symbol.dispose]();
  rmSync(cacheDirectory, { recursive: true });
});

const load = (directory: string, form: WeightForm, cache = cacheDirectory) =>
  loadDecoder(runtime, directory, { form, maxPositions: 64, cacheDirectory: cache, contentHash: directory });

/** Log-probabilities [positions, vocabulary] of a prompt's every position. */
function logprobs(directory: string, form: WeightForm, prompt: readonly number[]): Float32Array[] {
  using decoder = load(directory, form);
  using pass = new DecoderPass(runtime, decoder, 1, 64);
  const all = pass.run(
    [prompt],
    0,
    prompt.map((_, position) => ({ row: 0, position })),
  );
  const width = all.length / prompt.length;
  return prompt.map((_, at) => {
    const row = all.slice(at * width, (at + 1) * width);
    const total = logSumExp(row);
    return row.map((value) => value - total);
  });
}

/** Mean over positions of KL(float32 || quantised), in nats. */
function divergence(exact: readonly Float32Array[], near: readonly Float32Array[]): number {
  const terms = exact.map((row, at) =>
    row.reduce((sum, value, id) => sum + Math.exp(value) * (value - (near[at]?.[id] ?? Number.NaN)), 0),
  );
  return terms.reduce((a, b) => a + b, 0) / terms.length;
}

test('SmolLM2: int8 is within 0.05 nats of float32 in mean KL, int4 within 1, and int8 is nearer', {
  skip: skipWithoutShared,
}, () => {
  const { directory } = smollm2Record('none');
  const reference = JSON.parse(readFileSync(join(directory, 'reference.json'), 'utf8'));
  const prompt: number[] = reference.chat[0].prompt_ids;
  const exact = logprobs(directory, 'float32', prompt);
  const int8 = divergence(exact, logprobs(directory, 'int8', prompt));
  const int4 = divergence(exact, logprobs(directory, 'int4', prompt));
  assert.ok(int8 >= 0 && int8 < 0.05, `int8: ${int8}`);
  assert.ok(int4 < 1, `int4: ${int4}`);
  assert.ok(int8 < int4);
});

for (const form of ['int8', 'int4'] as const) {
  test(`${form}: a batch of ragged rows gives what each row gives alone`, { skip: skipWithoutShared }, () => {
    using decoder = load(sharedPath('reference', 'qwen3'), form);
    using batch = new DecoderPass(runtime, decoder, 3, 64);
    using alone = new DecoderPass(runtime, decoder, 1, 64);
    const rows = [
      [5, 6, 7, 8, 9, 10, 11],
      [12, 13],
      [14, 15, 16, 17],
    ];
    const last = rows.map(({ length }, row) => ({ row, position: length - 1 }));
    const together = batch.run(rows, 0, last);
    const width = together.length / rows.length;
    for (const [row, tokens] of rows.entries()) {
      const single = alone.run([tokens], 0, [{ row: 0, position: tokens.length - 1 }]);
      const largest = single.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      for (const [id, value] of single.entries()) {
        assert.ok(Math.abs(value - (together[row * width + id] as number)) <= 2e-5 * largest);
      }
    }
  });
}

test('prepared weights are written once, and again where the file is broken', {
  skip: skipWithoutShared,
}, () => {
  const cache = join(cacheDirectory, 'once');
  mkdirSync(cache);
  const directory = sharedPath('reference', 'llama');
  load(directory, 'int8', cache)[Symbol.dispose]();
  const [name = ''] = readdirSync(cache);
  const first = statSync(join(cache, name));
  load(directory, 'int8', cache)[Symbol.dispose]();
  assert.deepEqual(readdirSync(cache), [name]);
  assert.equal(statSync(join(cache, name)).mtimeMs, first.mtimeMs);
  truncateSync(join(cache, name), first.size - 1);
  load(directory, 'int8', cache)[Symbol.dispose]();
  assert.equal(statSync(join(cache, name)).size, first.size);
  load(directory, 'int4', cache)[Symbol.dispose]();
  assert.equal(readdirSync(cache).length, 2);
});
