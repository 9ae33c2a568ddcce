import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Checkpoint } from '../../../../src/models/checkpoint/checkpoint.js';
import { SafetensorsWriter } from '../../../../src/models/checkpoint/safetensors-writer.js';
import type { Verdict } from '../../../../src/models/verify/verdict.js';
import { verifyDirectory } from '../../../../src/models/verify/verify-directory.js';
import { sharedPath, skipWithoutShared } from '../../../shared.js';
import { smollm2Record } from '../checkpoints.js';

const scratch = mkdtempSync(join(tmpdir(), 'instructd-verify-test-'));
after(() => rmSync(scratch, { recursive: true }));

async function verdictsOf(directory: string): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  for await (const verdict of verifyDirectory(directory)) verdicts.push(verdict);
  return verdicts;
}

async function failures(directory: string): Promise<{ checked: number; failed: Verdict[] }> {
  const verdicts = await verdictsOf(directory);
  const checked = verdicts.filter((verdict) => verdict.kind === 'checked');
  return { checked: checked.length, failed: checked.filter(({ ok }) => !ok) };
}

for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2']) {
  test(`${architecture}: logits, greedy ids and reward scores equal PyTorch's`, {
    skip: skipWithoutShared,
  }, async () => {
    assert.deepEqual(await failures(sharedPath('reference', architecture)), { checked: 5, failed: [] });
  });
}

test('a weight that is off by a hundredth fails the check', { skip: skipWithoutShared }, async () => {
  const source = sharedPath('reference', 'llama');
  const home = join(scratch, 'off');
  cpSync(source, home, { recursive: true });
  using checkpoint = Checkpoint.open(source);
  const tensors = [...checkpoint.tensors.values()];
  rmSync(join(home, 'model.safetensors'));
  using writer = new SafetensorsWriter(join(home, 'model.safetensors'), tensors);
  for (const tensor of tensors) {
    const values = new Float32Array(tensor.byteLength / 4);
    checkpoint.readFloats(tensor, values);
    if (tensor.name === 'model.layers.1.mlp.up_proj.weight') values[0] = (values[0] as number) + 0.01;
    writer.write(tensor.name, values);
  }
  writer.commit();
  const { failed } = await failures(home);
  assert.ok(failed.some(({ quantity }) => quantity.startsWith('logits')));
});

test('SmolLM2 in float32: texts, ids, greedy continuations and log-probabilities equal PyTorch', {
  skip: skipWithoutShared,
}, async () => {
  assert.deepEqual(await failures(smollm2Record('none').directory), { checked: 8, failed: [] });
});

test('a directory without a reference is refused', async () => {
  await assert.rejects(verdictsOf(scratch), /neither reference\.safetensors nor reference\.json/);
});
