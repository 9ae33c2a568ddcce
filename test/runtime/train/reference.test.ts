import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { verifyTraining } from '../../../src/train/verification/verify-training.js';
import { sharedPath, skipWithoutShared } from '../../shared.js';

const scratch = mkdtempSync(join(tmpdir(), 'instructd-reference-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

const failuresOf = (directory: string) => {
  const verdicts = [...verifyTraining(directory)];
  return {
    checks: verdicts.length,
    failed: verdicts.filter((verdict) => verdict.kind === 'unchecked' || !verdict.ok),
  };
};

describe('training equals PyTorch', { skip: skipWithoutShared }, () => {
  for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2'])
    test(`${architecture}: SFT, AdamW, reward and PPO-ptx losses and every gradient, to 2e-5`, () => {
      assert.deepEqual(failuresOf(sharedPath('reference', architecture)), { checks: 27, failed: [] });
    });

  test('a reference of other hyperparameters fails where they matter', () => {
    const directory = join(scratch, 'changed');
    cpSync(sharedPath('reference', 'llama'), directory, { recursive: true });
    const path = join(directory, 'reference.json');
    const text = readFileSync(path, 'utf8');
    for (const [from, to, quantity] of [
      ['"weight_decay": 0.1', '"weight_decay": 0.2', 'parameters after AdamW'],
      ['"lam": 0.95', '"lam": 0.9', 'ppo advantages'],
      ['"clip": 0.2', '"clip": 0.25', 'ppo policy loss'],
      ['"ptx_coef": 1.7', '"ptx_coef": 1.8', 'ppo gradients'],
    ] as const) {
      assert.ok(text.includes(from));
      writeFileSync(path, text.replace(from, to));
      const { failed } = failuresOf(directory);
      assert.ok(
        failed.some((verdict) => verdict.quantity.startsWith(quantity)),
        `${to}: ${JSON.stringify(failed)}`,
      );
    }
  });
});
