import { AppError } from '../core/errors.js';

/** What models exist. Files under DATA_DIR today; a database may stand behind the same interface. */

export type ModelKind = 'language' | 'reward';
export type Quantization = 'none' | 'int8' | 'int4';

export interface ModelRecord {
  readonly id: string;
  readonly kind: ModelKind;
  /** Directory in Hugging Face layout. */
  readonly directory: string;
  readonly quantization: Quantization;
  readonly architecture: string;
  readonly parameters: number;
  readonly contextLength: number;
  /** SHA-256 over the weight files' bytes and config.json: keys the quantised cache and the prefix cache. */
  readonly contentHash: string;
  readonly createdAt: Date;
  /** Where it came from. */
  readonly source: {
    readonly type: 'directory' | 'hub' | 'job';
    readonly location: string;
    readonly revision?: string;
  };
}

export interface ModelRegistry {
  /** Oldest first. */
  list(): Promise<readonly ModelRecord[]>;
  /** Throws `model_not_found`. */
  get(id: string): Promise<ModelRecord>;
  /** A new empty directory to fill with a checkpoint. `add` takes it over; whoever does not get that far deletes it. */
  stage(): Promise<string>;
  /**
   * Lists the model, files and all, in one atomic step: other processes see the whole of it or nothing.
   * @param record Its directory is one that `stage` gave.
   * @returns The record with the directory where the files now are. Throws `model_exists`.
   */
  add(record: ModelRecord): Promise<ModelRecord>;
  /** Unlists at once, then frees the files. Throws `model_not_found`. */
  remove(id: string): Promise<void>;
}

const MODEL_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;

export const isModelId = (name: string): boolean => MODEL_ID.test(name);

/** A model's name is one path segment in URLs and on disk, so a hub id's organisation is not part of it. Throws `invalid_value`. */
export function parseModelId(name: string): string {
  if (isModelId(name)) return name;
  throw new AppError(
    'invalid_value',
    `'${name}' cannot name a model: use 1 to 128 letters, digits, '.', '_', ':' or '-', the first a letter or digit.`,
    { param: 'name' },
  );
}
