/**
 * Compares a checkpoint directory with the outputs that PyTorch gave for it, in float32 on the CPU. A directory has one of two forms:
 * reference.safetensors (tensors: logits of a padded batch, greedy ids, reward scores), or a reference.json of its own (texts and token
 * ids, chat prompts, log-probabilities).
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError } from '../../core/errors.js';
import { openRuntime } from '../runtime/open-runtime.js';
import type { Runtime } from '../runtime/session.js';
import { loadDecoder } from '../transformer/load-decoder.js';
import type { OpenForCheck, Verdict } from './verdict.js';
import { verifyTensors } from './verify-tensors.js';
import { verifyTexts } from './verify-texts.js';

/** Throws `checkpoint_invalid` where the directory has no reference. */
export async function* verifyDirectory(directory: string): AsyncIterable<Verdict> {
  const tensors = join(directory, 'reference.safetensors');
  const texts = join(directory, 'reference.json');
  if (!existsSync(tensors) && !existsSync(texts)) {
    throw new AppError(
      'checkpoint_invalid',
      `${directory} has neither reference.safetensors nor reference.json to compare with.`,
      { param: directory },
    );
  }
  const scratch = mkdtempSync(join(tmpdir(), 'instructd-verify-'));
  const runtime = openRuntime({ provider: 'cpu' });
  try {
    const open = opener(runtime, scratch);
    if (existsSync(tensors)) yield* verifyTensors({ directory, file: tensors, scratch, runtime, open });
    else yield* verifyTexts({ directory, reference: JSON.parse(readFileSync(texts, 'utf8')), runtime, open });
  } finally {
    runtime[Symbol.dispose]();
    rmSync(scratch, { recursive: true, force: true });
  }
}

const opener =
  (runtime: Runtime, scratch: string): OpenForCheck =>
  (directory, positions) =>
    loadDecoder(runtime, directory, {
      form: 'float32',
      maxPositions: positions,
      cacheDirectory: scratch,
      // The scratch directory is new: the directory's name is key enough.
      contentHash: directory,
    });
