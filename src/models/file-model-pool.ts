import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../core/errors.js';
import { preparedDirectory } from './checkpoint-staging.js';
import { FileRegistry } from './file-registry.js';
import { Importer } from './importer.js';
import { loadTextModel } from './load.js';
import { defaultMemoryBudget, planMemory } from './memory-plan.js';
import type { ImportAsk, LoadedModel, ModelPool, ModelPoolOptions } from './model-pool.js';
import type { ModelKind, ModelRecord } from './registry.js';
import type { RewardModel } from './reward-model.js';
import { openRuntime } from './runtime/open-runtime.js';
import type { Provider } from './runtime/session.js';
import type { TextModel } from './text-model.js';

/** A model in memory, or on its way there. */
interface Resident {
  readonly record: ModelRecord;
  readonly bytes: number;
  readonly model: Promise<TextModel>;
  /** The same once it is there; null before. */
  ready: TextModel | null;
  /** Milliseconds since the epoch. */
  lastUsed: number;
}

/** A model that was handed out so recently is not evicted: its caller may be about to use it. */
const GRACE_MS = 5_000;
const DRAIN_POLL_MS = 50;

/** Opens the pool over DATA_DIR and loads what is to be preloaded. Throws `provider_unavailable`, and what a load throws. */
export async function openModelPool(options: ModelPoolOptions): Promise<ModelPool> {
  using runtime = openRuntime({ provider: options.provider });
  const pool = new FileModelPool(options, runtime.provider);
  await Promise.all(options.preload.map((id) => pool.text(id)));
  return pool;
}

/**
 * Models of DATA_DIR, loaded when first asked for. Every request looks its record up anew, so that models which other processes import,
 * replace or remove are seen at once. Under the memory budget the model that has been idle longest makes room.
 */
class FileModelPool implements ModelPool {
  readonly provider: Provider;
  readonly #options: ModelPoolOptions;
  readonly #registry: FileRegistry;
  readonly #importer: Importer;
  readonly #budget: number;
  readonly #residents = new Map<string, Resident>();
  /** Models that are no longer handed out, until their requests have finished. */
  readonly #retiring = new Set<Promise<void>>();
  #isClosed = false;

  constructor(options: ModelPoolOptions, provider: Provider) {
    this.provider = provider;
    this.#options = options;
    this.#registry = new FileRegistry(options.directory);
    const { directory, hub } = options;
    const { contextLength } = options.engine;
    this.#importer = new Importer(this.#registry, { directory, hub, provider, contextLength });
    // What a device has is not known here; ONNX Runtime's own error says so when it is full.
    const unlimited = provider === 'cuda' ? Number.POSITIVE_INFINITY : defaultMemoryBudget();
    this.#budget = options.memoryBytes ?? unlimited;
  }

  list(): Promise<readonly ModelRecord[]> {
    return this.#registry.list();
  }

  get(id: string): Promise<ModelRecord> {
    return this.#registry.get(id);
  }

  async text(id: string): Promise<TextModel> {
    const record = requireKind(await this.#registry.get(id), 'language');
    return (await this.#resident(record)).model;
  }

  async reward(id: string): Promise<RewardModel> {
    const record = requireKind(await this.#registry.get(id), 'reward');
    throw new AppError('model_not_supported', `Model '${record.id}': this build cannot score yet.`);
  }

  import(ask: ImportAsk, signal: AbortSignal): Promise<ModelRecord> {
    return this.#importer.import(ask, () => {}, signal);
  }

  async remove(id: string): Promise<void> {
    const resident = this.#residents.get(id);
    // Files may not go while a load reads them; once it runs, it holds them itself.
    await resident?.model.catch(() => {});
    await this.#registry.remove(id);
    if (resident !== undefined) this.#retire(id, resident);
  }

  async loaded(): Promise<readonly LoadedModel[]> {
    const ready = [...this.#residents.values()].flatMap(({ record, ready }) =>
      ready ? [{ record, ready }] : [],
    );
    return Promise.all(
      ready.map(async ({ record: { id, kind }, ready }) => ({ id, kind, stats: await ready.stats() })),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const models = [...this.#residents.values()].map(({ model }) => model);
    this.#residents.clear();
    await Promise.all(models.map(async (model) => (await model.catch(() => null))?.[Symbol.asyncDispose]()));
    await Promise.all(this.#retiring);
  }

  /** The model in memory; one that was replaced on disk, or whose engine has failed, is loaded anew. */
  async #resident(record: ModelRecord): Promise<Resident> {
    const found = this.#residents.get(record.id);
    if (found !== undefined) {
      found.lastUsed = Date.now();
      if (isSame(found.record, record) && (await found.model).failure === null) return found;
      if (this.#residents.get(record.id) === found) this.#retire(record.id, found);
      return this.#resident(record);
    }
    if (this.#isClosed) throw new AppError('shutting_down', 'The service is draining.');
    const { weightBytes, kvBytes } = planMemory(record, this.#options.engine, this.provider);
    const bytes = weightBytes + kvBytes;
    const model = this.#makeRoom(record.id, bytes).then(() => this.#load(record));
    const resident: Resident = { record, bytes, model, ready: null, lastUsed: Date.now() };
    this.#residents.set(record.id, resident);
    model.then(
      (ready) => {
        resident.ready = ready;
      },
      () => {
        if (this.#residents.get(record.id) === resident) this.#residents.delete(record.id);
      },
    );
    return resident;
  }

  #load(record: ModelRecord): Promise<TextModel> {
    const { engine, threads } = this.#options;
    return loadTextModel(record, {
      runtime: { provider: this.provider, ...(threads !== undefined && { threads }) },
      engine,
      cacheDirectory: preparedDirectory(record.directory),
    });
  }

  /** Evicts idle models, the one unused for longest first, until `bytes` fit. Throws `out_of_memory`. */
  async #makeRoom(id: string, bytes: number): Promise<void> {
    const others = () => [...this.#residents.values()].filter(({ record }) => record.id !== id);
    const used = () => others().reduce((sum, resident) => sum + resident.bytes, 0);
    const byAge = others().sort((left, right) => left.lastUsed - right.lastUsed);
    for (const resident of byAge) {
      if (used() + bytes <= this.#budget) return;
      if (bytes > this.#budget || !(await isIdle(resident))) continue;
      await this.#retire(resident.record.id, resident);
    }
    if (used() + bytes <= this.#budget) return;
    throw new AppError(
      'out_of_memory',
      `Model '${id}' needs ${mebibytes(bytes)} MiB for weights and KV cache; ${mebibytes(Math.max(this.#budget - used(), 0))} MiB ` +
        `of ${mebibytes(this.#budget)} are free. Lower SLOTS or CONTEXT_LENGTH, quantise it further, or raise MEMORY_LIMIT_BYTES.`,
      { retryAfterSeconds: 30 },
    );
  }

  /** Takes a model out of use; it is freed when its requests have finished. */
  #retire(id: string, resident: Resident): Promise<void> {
    if (this.#residents.get(id) === resident) this.#residents.delete(id);
    const retirement = this.#free(resident).finally(() => this.#retiring.delete(retirement));
    this.#retiring.add(retirement);
    return retirement;
  }

  async #free(resident: Resident): Promise<void> {
    const model = await resident.model.catch(() => null);
    if (model === null) return;
    const isDone = async () => this.#isClosed || model.failure !== null || (await isIdle(resident));
    while (!(await isDone())) await sleep(DRAIN_POLL_MS);
    await model[Symbol.asyncDispose]();
  }
}

function requireKind(record: ModelRecord, kind: ModelKind): ModelRecord {
  if (record.kind === kind) return record;
  throw new AppError(
    'wrong_model_kind',
    kind === 'language'
      ? `Model '${record.id}' is a reward model: it gives scores (POST /v1/rewards), not text.`
      : `Model '${record.id}' is a language model: it gives text, not scores.`,
    { param: 'model' },
  );
}

/** A name may be given to another model, by any process. */
const isSame = (left: ModelRecord, right: ModelRecord): boolean =>
  left.contentHash === right.contentHash &&
  left.quantization === right.quantization &&
  left.createdAt.getTime() === right.createdAt.getTime();

async function isIdle({ model, lastUsed }: Resident): Promise<boolean> {
  if (Date.now() - lastUsed < GRACE_MS) return false;
  const ready = await model.catch(() => null);
  if (ready === null) return true;
  const { requestsRunning, requestsWaiting } = await ready.stats();
  return requestsRunning + requestsWaiting === 0;
}

const mebibytes = (count: number): string => (count / 2 ** 20).toFixed(0);
