/** The checks of verify-directory.ts that come as tensors: reference.safetensors beside a tiny checkpoint. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { AppError } from '../../core/errors.js';
import { Checkpoint } from '../checkpoint/checkpoint.js';
import { elementCount, SafetensorsFile } from '../checkpoint/safetensors.js';
import { SafetensorsWriter } from '../checkpoint/safetensors-writer.js';
import type { Runtime } from '../runtime/session.js';
import { DecoderPass, decodeGreedily, type Place } from '../transformer/decoder-pass.js';
import { checked, type OpenForCheck, type Verdict } from './verdict.js';

/** Of the tensor's largest magnitude: float32 sums in another order than PyTorch's. */
const RELATIVE_BOUND = 2e-5;

interface TensorCheck {
  readonly directory: string;
  readonly file: string;
  readonly scratch: string;
  readonly runtime: Runtime;
  readonly open: OpenForCheck;
}

export function* verifyTensors(check: TensorCheck): Generator<Verdict> {
  using reference = new Reference(check.file);
  const batch = reference.batch('logits');
  const prompt = reference.rows('logits/greedy_prompt')[0] ?? [];
  const greedy = reference.rows('logits/greedy_new')[0] ?? [];
  const longest = Math.max(prompt.length + greedy.length, ...batch.map(({ length }) => length));
  {
    using decoder = check.open(check.directory, longest);
    yield* verifyLogits(check.runtime, decoder, reference, batch, longest);
    using pass = new DecoderPass(check.runtime, decoder, 1, longest);
    const ids = decodeGreedily(pass, prompt, greedy.length);
    yield checked('greedy ids that differ', greedy.filter((id, at) => id !== ids[at]).length, 0);
  }
  if (reference.has('rm/scores')) yield verifyScores(check, reference);
  for (const [group, count] of reference.groups()) {
    if (group.startsWith('logits/') || isElsewhere(group)) continue;
    yield {
      kind: 'unchecked',
      quantity: `${group} (${count} tensors)`,
      reason: 'nothing here computes it',
    };
  }
}

/** Losses, gradients and optimizer steps are train's to check. */
const isElsewhere = (group: string): boolean => /^(?:sft|rm|ppo)\//.test(group);

function* verifyLogits(
  runtime: Runtime,
  decoder: ReturnType<OpenForCheck>,
  reference: Reference,
  batch: readonly (readonly number[])[],
  longest: number,
): Generator<Verdict> {
  const { values, shape } = reference.floats('logits/logits');
  const [, time = 0, vocabulary = 0] = shape;
  const expectedAt = ({ row, position }: Place): Float32Array =>
    values.subarray((row * time + position) * vocabulary, (row * time + position + 1) * vocabulary);
  const places = batch.flatMap((ids, row) => ids.map((_, position) => ({ row, position })));
  const expected = concatenate(places.map(expectedAt));
  using whole = new DecoderPass(runtime, decoder, batch.length, longest);
  yield checked('logits, padded batch', relativeError(whole.run(batch, 0, places), expected), RELATIVE_BOUND);

  using alone = new DecoderPass(runtime, decoder, 1, longest);
  const stepwise = batch.flatMap((ids) =>
    ids.map((id, past) => alone.run([[id]], past, [{ row: 0, position: 0 }])),
  );
  yield checked('logits, a token a run', relativeError(concatenate(stepwise), expected), RELATIVE_BOUND);

  const chunked = batch.flatMap((ids) =>
    [ids.slice(0, 2), ids.slice(2)].map((chunk, at) =>
      alone.run(
        [chunk],
        at * 2,
        chunk.map((_, position) => ({ row: 0, position })),
      ),
    ),
  );
  yield checked('logits, in two chunks', relativeError(concatenate(chunked), expected), RELATIVE_BOUND);
}

/** The trunk with the reference's head, as a reward checkpoint of our own layout. */
function verifyScores(check: TensorCheck, reference: Reference): Verdict {
  const batch = reference.batch('rm');
  const longest = Math.max(...batch.map(({ length }) => length));
  const directory = writeRewardCheckpoint(check, reference);
  using decoder = check.open(directory, longest);
  using pass = new DecoderPass(check.runtime, decoder, batch.length, longest);
  const scores = pass.run(
    batch,
    0,
    batch.map(({ length }, row) => ({ row, position: length - 1 })),
  );
  return checked(
    'reward scores',
    relativeError(scores, reference.floats('rm/scores').values),
    RELATIVE_BOUND,
  );
}

function writeRewardCheckpoint({ directory, scratch }: TensorCheck, reference: Reference): string {
  const target = join(scratch, 'reward');
  mkdirSync(target);
  const head = [
    { name: 'score.weight', values: reference.floats('rm/head_weight').values },
    { name: 'score.bias', values: reference.floats('rm/head_bias').values },
  ];
  using writer = new SafetensorsWriter(
    join(target, 'score.safetensors'),
    head.map(({ name, values }) => ({ name, type: 'F32', shape: [values.length] })),
  );
  for (const { name, values } of head) writer.write(name, values);
  writer.commit();
  using trunk = Checkpoint.open(directory);
  const shards = new Map([...trunk.tensors.values()].map(({ name, file }) => [name, basename(file)]));
  for (const shard of new Set(shards.values()))
    symlinkSync(
      resolve(directory, shard),
      join(target, shard === 'model.safetensors' ? 'trunk.safetensors' : shard),
    );
  const weightMap = Object.fromEntries(
    [...shards].map(([name, shard]) => [name, shard === 'model.safetensors' ? 'trunk.safetensors' : shard]),
  );
  for (const { name } of head) weightMap[name] = 'score.safetensors';
  writeFileSync(join(target, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
  const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'));
  writeFileSync(
    join(target, 'config.json'),
    JSON.stringify({ ...config, instructd: { head: 'reward', mean: 0 } }),
  );
  return target;
}

/** reference.safetensors: float32 tensors, and int32 token ids with masks. */
class Reference implements Disposable {
  readonly #file: SafetensorsFile;

  constructor(path: string) {
    this.#file = new SafetensorsFile(path);
  }

  has(name: string): boolean {
    return this.#file.tensors.has(name);
  }

  /** Names up to the second slash, with the number of tensors under each. */
  groups(): Map<string, number> {
    const groups = new Map<string, number>();
    for (const name of [...this.#file.tensors.keys()].sort()) {
      const group = name.split('/').slice(0, 2).join('/');
      groups.set(group, (groups.get(group) ?? 0) + 1);
    }
    return groups;
  }

  floats(name: string): { values: Float32Array; shape: readonly number[] } {
    const { bytes, shape } = this.#read(name, 'F32');
    return { values: new Float32Array(bytes.buffer), shape };
  }

  /** int32 [rows, time] as lists. */
  rows(name: string): number[][] {
    const { bytes, shape } = this.#read(name, 'I32');
    const [rows = 0, time = 0] = shape;
    const values = new Int32Array(bytes.buffer);
    return Array.from({ length: rows }, (_, row) => [...values.subarray(row * time, (row + 1) * time)]);
  }

  /** Token ids of each row of a batch without its padding on the right. */
  batch(group: string): number[][] {
    const masks = this.rows(`${group}/attention_mask`);
    return this.rows(`${group}/input_ids`).map((ids, row) =>
      ids.filter((_, position) => masks[row]?.[position] === 1),
    );
  }

  #read(name: string, type: 'F32' | 'I32'): { bytes: Uint8Array<ArrayBuffer>; shape: readonly number[] } {
    const tensor = this.#file.tensors.get(name);
    if (tensor?.type !== type) {
      throw new AppError('checkpoint_invalid', `${this.#file.file} lacks "${name}" in ${type}.`, {
        param: name,
      });
    }
    const bytes = new Uint8Array(elementCount(tensor.shape) * 4);
    this.#file.readBytes(tensor, bytes);
    return { bytes, shape: tensor.shape };
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

function concatenate(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Largest difference over the expected tensor's largest magnitude; NaN where a value is NaN or the lengths differ. */
function relativeError(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Number.NaN;
  let difference = 0;
  let largest = 0;
  for (const [index, value] of expected.entries()) {
    difference = Math.max(difference, Math.abs((actual[index] as number) - value));
    largest = Math.max(largest, Math.abs(value));
  }
  return difference / largest;
}
