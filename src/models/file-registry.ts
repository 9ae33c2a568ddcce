import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../core/errors.js';
import { idleTime, syncDirectory, writeSynced } from './import/shared-directory.js';
import { isModelId, type ModelRecord, type ModelRegistry, parseModelId } from './registry.js';

const RECORD = 'record.json';
/** Names that are no model ids: what is being filled, and what is being deleted. */
const STAGING = '.staging-';
const REMOVED = '.removed-';
/** Nothing that lives goes this long without a write. */
const ABANDONED_AFTER_MS = 60 * 60 * 1000;

/** A record on disk: the directory is where the file lies, so that DATA_DIR can be moved. */
type StoredRecord = Omit<ModelRecord, 'directory' | 'createdAt'> & { readonly createdAt: string };

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

/**
 * One directory a model, `DATA_DIR/models/<id>`: the checkpoint in Hugging Face layout and record.json beside it. A model appears and
 * goes by renaming its directory, so any number of processes may share DATA_DIR without a lock, and each sees the others' models.
 */
export class FileRegistry implements ModelRegistry {
  readonly #root: string;

  /** @param dataDirectory DATA_DIR; made on the first write. */
  constructor(dataDirectory: string) {
    this.#root = join(dataDirectory, 'models');
  }

  async list(): Promise<readonly ModelRecord[]> {
    const names = await readdir(this.#root).catch((error: unknown) => {
      if (codeOf(error) === 'ENOENT') return [];
      throw error;
    });
    const records = await Promise.all(names.filter(isModelId).map((name) => this.#read(name)));
    return records
      .filter((record) => record !== null)
      .sort((left, right) => left.createdAt.getTime() - right.createdAt.getTime());
  }

  async get(id: string): Promise<ModelRecord> {
    const record = isModelId(id) ? await this.#read(id) : null;
    if (record === null) throw notFound(id);
    return record;
  }

  async stage(): Promise<string> {
    await mkdir(this.#root, { recursive: true });
    await this.#sweep();
    return mkdtemp(join(this.#root, STAGING));
  }

  async add(record: ModelRecord): Promise<ModelRecord> {
    const { directory: staged, createdAt, ...rest } = record;
    const directory = join(this.#root, parseModelId(record.id));
    const stored: StoredRecord = { ...rest, createdAt: createdAt.toISOString() };
    await writeSynced(join(staged, RECORD), `${JSON.stringify(stored, null, 2)}\n`);
    await syncDirectory(staged);
    try {
      await rename(staged, directory);
    } catch (error) {
      // A directory that holds files is never replaced: this is what makes the name exclusive.
      if (codeOf(error) !== 'ENOTEMPTY' && codeOf(error) !== 'EEXIST') throw error;
      throw new AppError(
        'model_exists',
        `Model '${record.id}' exists; remove it first (instructd models remove ${record.id}) or choose another name.`,
        { param: 'name', cause: error },
      );
    }
    await syncDirectory(this.#root);
    return { ...record, directory };
  }

  async remove(id: string): Promise<void> {
    await this.get(id);
    const gone = join(this.#root, `${REMOVED}${randomBytes(6).toString('hex')}`);
    try {
      await rename(join(this.#root, id), gone);
    } catch (error) {
      if (codeOf(error) === 'ENOENT') throw notFound(id); // another process was first
      throw error;
    }
    await rm(gone, { recursive: true, force: true });
  }

  async #read(id: string): Promise<ModelRecord | null> {
    const directory = join(this.#root, id);
    const path = join(directory, RECORD);
    try {
      const { createdAt, ...stored } = JSON.parse(await readFile(path, 'utf8')) as StoredRecord;
      return { ...stored, id, directory, createdAt: new Date(createdAt) };
    } catch (error) {
      if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return null;
      throw new AppError('internal_error', `${path} cannot be read; restore it or delete its directory.`, {
        param: path,
        cause: error,
      });
    }
  }

  /** Deletes what processes that died left behind. */
  async #sweep(): Promise<void> {
    for (const name of await readdir(this.#root)) {
      if (!name.startsWith(STAGING) && !name.startsWith(REMOVED)) continue;
      const directory = join(this.#root, name);
      if ((await idleTime(directory)) > ABANDONED_AFTER_MS)
        await rm(directory, { recursive: true, force: true });
    }
  }
}

const notFound = (id: string) =>
  new AppError('model_not_found', `Model '${id}' does not exist; GET /v1/models lists those that do.`, {
    param: 'model',
  });
