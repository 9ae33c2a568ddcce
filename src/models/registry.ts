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
  list(): Promise<readonly ModelRecord[]>;
  /** Throws `model_not_found`. */
  get(id: string): Promise<ModelRecord>;
  /** Throws `model_exists`. */
  add(record: ModelRecord): Promise<void>;
  remove(id: string): Promise<void>;
}
