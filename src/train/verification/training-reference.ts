/** reference.safetensors and reference.json beside a checkpoint: what PyTorch computed in training it. Sizes and names come from there. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../../core/errors.js';
import { elementCount, SafetensorsFile } from '../../models/checkpoint/safetensors.js';
import { readModelConfig } from '../../models/transformer/load-decoder.js';
import type { ModelConfig } from '../../models/transformer/model-config.js';
import { checked, type Verdict } from '../../models/verify/verdict.js';
import { indexFeed, int64 } from '../language-loss.js';
import { loadWeights, type Substitute } from '../model-weights.js';
import type { ArenaEntry, ParameterArena } from '../optim/parameter-arena.js';
import type { Feeds } from '../step.js';

/** Of a tensor's largest magnitude, or of 1 for a number: float32 sums in another order than PyTorch's. */
export const BOUND = 2e-5;

export class TrainingReference implements Disposable {
  readonly config: ModelConfig;
  readonly #directory: string;
  readonly #file: SafetensorsFile;
  readonly #figures: Readonly<Record<string, unknown>>;

  constructor(directory: string) {
    this.#directory = directory;
    this.config = readModelConfig(directory);
    this.#file = new SafetensorsFile(join(directory, 'reference.safetensors'));
    const figures = join(directory, 'reference.json');
    this.#figures = existsSync(figures)
      ? (JSON.parse(readFileSync(figures, 'utf8')) as Record<string, unknown>)
      : {};
  }

  has(name: string): boolean {
    return this.#file.tensors.has(name);
  }

  names(prefix: string): string[] {
    return [...this.#file.tensors.keys()].filter((name) => name.startsWith(prefix));
  }

  shape(name: string): readonly [number, number] {
    return this.#tensor(name).shape as unknown as [number, number];
  }

  numbers(name: string): number[] {
    const tensor = this.#tensor(name);
    const bytes = new Uint8Array(4 * elementCount(tensor.shape));
    this.#file.readBytes(tensor, bytes);
    return [...(tensor.type === 'F32' ? new Float32Array(bytes.buffer) : new Int32Array(bytes.buffer))];
  }

  /** A number of reference.json; `group` is the object that it lies in. */
  figure(name: string, group: string | null = null): number {
    const value = this.figures(group)[name];
    if (typeof value === 'number') return value;
    throw this.#lacks(`the number ${group === null ? name : `${group}.${name}`}`);
  }

  list(name: string, group: string | null = null): readonly number[] {
    const value = this.figures(group)[name];
    if (Array.isArray(value)) return value as readonly number[];
    throw this.#lacks(`the list ${group === null ? name : `${group}.${name}`}`);
  }

  figures(group: string | null): Readonly<Record<string, unknown>> {
    if (group === null) return this.#figures;
    const value = this.#figures[group];
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
    throw this.#lacks(group);
  }

  /** The checkpoint's weights; scalar heads are rm/head_weight and rm/head_bias. */
  load(parameters: ParameterArena): void {
    loadWeights(this.#directory, parameters, ({ name }: ArenaEntry): Substitute | null => {
      const head = /^(?:score|value)\.(weight|bias)$/.exec(name);
      return head && { type: 'fresh', values: Float32Array.from(this.numbers(`rm/head_${head[1]}`)) };
    });
  }

  #tensor(name: string) {
    const tensor = this.#file.tensors.get(name);
    if (tensor?.type !== 'F32' && tensor?.type !== 'I32') throw this.#lacks(`"${name}" in F32 or I32`);
    return tensor;
  }

  #lacks(what: string): AppError {
    return new AppError('checkpoint_invalid', `The reference in ${this.#directory} lacks ${what}.`, {
      param: this.#directory,
    });
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** What a pass over ids learns: the token behind each of these positions. */
export const passFeeds = (
  ids: readonly number[],
  shape: readonly [number, number],
  positions: readonly number[],
): Feeds => ({
  tokens: int64(BigInt64Array.from(ids, BigInt), shape),
  picked: indexFeed(positions),
  targets: indexFeed(positions.map((at) => ids[at + 1]!)),
});

export const largestOf = (values: readonly number[]): number =>
  values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

/** Largest difference as a share of the largest expected number, or of `floor` where that is larger; NaN where lengths differ. */
export function relativeError(found: ArrayLike<number>, expected: readonly number[], floor = 1e-12): number {
  if (found.length !== expected.length) return Number.NaN;
  const scale = Math.max(floor, largestOf(expected));
  let most = 0;
  for (const [i, value] of expected.entries()) {
    const error = Math.abs(value - found[i]!);
    if (!(error <= most)) most = error;
  }
  return most / scale;
}

export const checkNumber = (quantity: string, found: number, expected: number): Verdict =>
  checked(quantity, Math.abs(found - expected) / Math.max(1, Math.abs(expected)), BOUND);

/**
 * Every gradient of a stage. Some are 0 but for rounding (a bias that softmax or a difference cancels): a hundredth of the largest of all
 * is the floor of what an error is a share of.
 */
export function* checkGradients(
  reference: TrainingReference,
  stage: string,
  gradients: ParameterArena,
): Generator<Verdict> {
  const { entries } = gradients.layout;
  const expected = new Map(entries.map(({ name }) => [name, reference.numbers(`${stage}/grad/${name}`)]));
  const floor = 0.01 * Math.max(...[...expected.values()].map(largestOf));
  let worst = { name: '', error: -1 };
  for (const { name, offset, length } of entries) {
    const found = new Float32Array(length);
    gradients.read(found, offset);
    const error = relativeError(found, expected.get(name)!, floor);
    if (!(error <= worst.error)) worst = { name, error };
  }
  yield checked(
    `${stage} gradients of ${entries.length} parameters, worst ${worst.name}`,
    worst.error,
    BOUND,
  );
  const others = reference
    .names(`${stage}/grad/`)
    .filter((name) => !expected.has(name.slice(`${stage}/grad/`.length)))
    .filter((name) => largestOf(reference.numbers(name)) > 0);
  yield checked(`${stage} parameters with a gradient that are not trained here`, others.length, 0);
}
