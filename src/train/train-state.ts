/**
 * Checkpoints of a training run: one safetensors file a step that holds all that decides what comes next, so that a run that is killed
 * goes on bit for bit. A file appears under its name whole or not at all, and the last one stays until a newer one is whole.
 */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../core/errors.js';
import { allFinite } from '../models/checkpoint/float-formats.js';
import { elementCount, invalid, SafetensorsFile, type StoredType } from '../models/checkpoint/safetensors.js';
import { SafetensorsWriter } from '../models/checkpoint/safetensors-writer.js';
import type { ParameterArena } from './optim/parameter-arena.js';
import type { Trainable } from './trainable.js';

export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };

/** Numbers that a trainer adds to its weights' state: a half-finished rollout, reference log-probabilities. */
export type StateBuffer = Float32Array | Float64Array | Int32Array | Uint8Array;

export interface RunState {
  /** Optimizer steps done. */
  readonly step: number;
  /** Whatever decides the run beside its state (configuration, data, seed); a resume with another one is refused. */
  readonly run: string;
  readonly models: Readonly<Record<string, Trainable>>;
  /** Cursor into the data, generators, controllers, best results. Numbers survive exactly. */
  readonly values: JsonValue;
  readonly buffers: Readonly<Record<string, StateBuffer>>;
}

interface Header {
  readonly format: 1;
  readonly step: number;
  readonly run: string;
  readonly optimizerSteps: Readonly<Record<string, number>>;
  readonly values: JsonValue;
}

const FILE = /^step-(\d{8})\.safetensors$/;
const PARTIAL = /^\.step-\d{8}\.safetensors\..*\.partial$/;
const fileName = (step: number): string => `step-${String(step).padStart(8, '0')}.safetensors`;

/** A run's directory of checkpoints. One run writes there at a time. */
export class StateStore {
  readonly directory: string;
  readonly #keep: number;

  /** @param keep newest checkpoints that stay, at least 1 */
  constructor(directory: string, keep: number) {
    this.directory = directory;
    this.#keep = keep;
    mkdirSync(directory, { recursive: true });
    for (const name of readdirSync(directory)) if (PARTIAL.test(name)) rmSync(join(directory, name));
  }

  /** Steps with a checkpoint, in order. */
  get steps(): readonly number[] {
    return readdirSync(this.directory)
      .flatMap((name) => FILE.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((one, two) => one - two);
  }

  /** Written, on the disk and under its name when this returns its path. */
  save(state: RunState): string {
    const path = join(this.directory, fileName(state.step));
    writeState(path, state);
    for (const step of this.steps.slice(0, -this.#keep)) rmSync(join(this.directory, fileName(step)));
    return path;
  }

  get latestPath(): string | null {
    const step = this.steps.at(-1);
    return step === undefined ? null : join(this.directory, fileName(step));
  }

  /**
   * The newest checkpoint; null where there is none.
   * @param run as it was saved
   * @throws AppError `checkpoint_invalid` for a broken file, `run_mismatch` for one of another configuration or other data
   */
  openLatest(run: string): SavedState | null {
    const path = this.latestPath;
    if (path === null) return null;
    const state = new SavedState(path);
    if (state.run === run) return state;
    state[Symbol.dispose]();
    throw new AppError(
      'run_mismatch',
      `${path} is a checkpoint of a run with another configuration or other data; resume with those, or start in an empty directory.`,
      { param: path },
    );
  }
}

const arenasOf = (model: Trainable): readonly (readonly [string, ParameterArena])[] => [
  ['weights', model.parameters],
  ['first moment', model.optimizer.first],
  ['second moment', model.optimizer.second],
  ...(model.average === null ? [] : [['average', model.average] as const]),
];

const storedType = (buffer: StateBuffer): StoredType => {
  if (buffer instanceof Float32Array) return 'F32';
  if (buffer instanceof Float64Array) return 'F64';
  return buffer instanceof Int32Array ? 'I32' : 'U8';
};

function writeState(path: string, { step, run, models, values, buffers }: RunState): void {
  const arenas = Object.entries(models).flatMap(([name, model]) =>
    arenasOf(model).map(([part, arena]) => [`${name}/${part}`, arena] as const),
  );
  const extra = Object.entries(buffers).map(([name, buffer]) => [`buffer/${name}`, buffer] as const);
  const header: Header = {
    format: 1,
    step,
    run,
    optimizerSteps: Object.fromEntries(Object.entries(models).map(([name, m]) => [name, m.optimizer.steps])),
    values,
  };
  using writer = new SafetensorsWriter(
    path,
    [
      ...arenas.map(([name, { layout }]) => ({ name, type: 'F32' as const, shape: [layout.length] })),
      ...extra.map(([name, buffer]) => ({ name, type: storedType(buffer), shape: [buffer.length] })),
    ],
    { instructd: JSON.stringify(header) },
  );
  for (const [name, arena] of arenas) {
    for (const { first, length } of arena.pieces()) {
      const piece = new Float32Array(length);
      arena.read(piece, first);
      writer.write(name, piece, first * 4);
    }
  }
  for (const [name, buffer] of extra) writer.write(name, buffer);
  writer.commit();
}

/** An open checkpoint of a run. */
export class SavedState implements Disposable {
  readonly path: string;
  readonly step: number;
  readonly run: string;
  readonly values: JsonValue;
  readonly #optimizerSteps: Readonly<Record<string, number>>;
  readonly #file: SafetensorsFile;

  /** @throws AppError `checkpoint_invalid` */
  constructor(path: string) {
    if (!existsSync(path)) throw new AppError('checkpoint_invalid', `${path} is not there.`, { param: path });
    this.path = path;
    this.#file = new SafetensorsFile(path);
    const header = parseHeader(this.#file);
    if (header === null) {
      this.#file[Symbol.dispose]();
      throw invalid(path, 'is no checkpoint of a training run');
    }
    this.step = header.step;
    this.run = header.run;
    this.values = header.values;
    this.#optimizerSteps = header.optimizerSteps;
  }

  /**
   * Weights, moments, step count and average of one model, over what it has. Its average is started where it has none.
   * @throws AppError `checkpoint_invalid` where a buffer is absent, of another length, or holds a NaN or an infinity
   */
  restore(name: string, model: Trainable): void {
    model.startAverage();
    for (const [part, arena] of arenasOf(model)) {
      const tensor = this.#tensor(`${name}/${part}`, arena.layout.length);
      for (const { first, length } of arena.pieces()) {
        const piece = new Float32Array(length);
        this.#file.readBytes(tensor, new Uint8Array(piece.buffer), first * 4);
        if (!allFinite(piece)) throw invalid(this.path, `has a NaN or an infinity in "${tensor.name}"`);
        arena.write(piece, first);
      }
    }
    model.optimizer.steps = this.#optimizerSteps[name] ?? 0;
  }

  /** A trainer's buffer; null where this checkpoint has none of that name. */
  buffer(name: string): StateBuffer | null {
    const tensor = this.#file.tensors.get(`buffer/${name}`);
    if (tensor === undefined) return null;
    const bytes = new Uint8Array(tensor.byteLength);
    this.#file.readBytes(tensor, bytes);
    if (tensor.type === 'F32') return new Float32Array(bytes.buffer);
    if (tensor.type === 'F64') return new Float64Array(bytes.buffer);
    return tensor.type === 'I32' ? new Int32Array(bytes.buffer) : bytes;
  }

  #tensor(name: string, length: number) {
    const tensor = this.#file.tensors.get(name);
    if (tensor === undefined) throw invalid(this.path, `lacks "${name}"`);
    if (tensor.type !== 'F32' || elementCount(tensor.shape) !== length)
      throw invalid(this.path, `has "${name}" as ${tensor.type} [${tensor.shape}], not F32 [${length}]`);
    return tensor;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

function parseHeader(file: SafetensorsFile): Header | null {
  try {
    const header = JSON.parse(file.metadata.instructd ?? 'null') as Header | null;
    return header?.format === 1 ? header : null;
  } catch {
    return null;
  }
}
