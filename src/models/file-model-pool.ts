import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../core/errors.js';
import { formatBytes } from '../core/units.js';
import { CountedRewardModel } from './counted-reward-model.js';
import { FileRegistry } from './file-registry.js';
import { preparedDirectory } from './import/checkpoint-staging.js';
import { Importer } from './import/importer.js';
import { loadRewardModel, loadTextModel } from './load.js';
import { defaultMemoryBudget, planMemory } from './memory-plan.js';
import type { ImportAsk, LoadedModel, ModelPool, ModelPoolOptions } from './model-pool.js';
import type { ModelRecord } from './registry.js';
import type { RewardModel } from './reward-model.js';
import { openRuntime } from './runtime/open-runtime.js';
import type { Provider, Runtime } from './runtime/session.js';
import type { TextModel } from './text-model.js';

/** A model that runs, with what the pool asks of either kind. */
type Running =
  | { readonly kind: 'language'; readonly model: TextModel }
  | { readonly kind: 'reward'; readonly model: CountedRewardModel };

/** A model in memory, or on its way there. */
interface Resident {
  readonly record: ModelRecord;
  readonly bytes: number;
  readonly running: Promise<Running>;
  /** The same once it is there; null before. */
  ready: Running | null;
  /** Milliseconds since the epoch. */
  lastUsed: number;
}

/** A model that was handed out so recently is not evicted: its caller may be about to use it. */
const GRACE_MS = 5_000;
const DRAIN_POLL_MS = 50;

/** Opens the pool over DATA_DIR and loads what is to be preloaded. Throws `provider_unavailable`, and what a load throws. */
export async function openModelPool(options: ModelPoolOptions): Promise<ModelPool> {
  const { provider, cuda } = options;
  using runtime = openRuntime({ provider, ...(cuda !== undefined && { cuda }) });
  const pool = new FileModelPool(options, runtime);
  await pool.preload(options.preload);
  return pool;
}

/**
 * Models of DATA_DIR, loaded when first asked for. Every request looks its record up anew, so that models which other processes import,
 * replace or remove are seen at once. Under the memory budget the model that has been idle longest makes room.
 */
class FileModelPool implements ModelPool {
  readonly provider: Provider;
  readonly providerChoice: string;
  readonly #options: ModelPoolOptions;
  readonly #registry: FileRegistry;
  readonly #importer: Importer;
  readonly #budget: number;
  readonly #residents = new Map<string, Resident>();
  /** Models that are no longer handed out, until their requests have finished. */
  readonly #retiring = new Set<Promise<void>>();
  #isClosed = false;

  constructor(options: ModelPoolOptions, { provider, choice }: Pick<Runtime, 'provider' | 'choice'>) {
    this.provider = provider;
    this.providerChoice = choice;
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
    const running = await this.#running(id);
    if (running.kind === 'language') return running.model;
    throw wrongKind(`Model '${id}' is a reward model: it gives scores (POST /v1/rewards), not text.`);
  }

  async reward(id: string): Promise<RewardModel> {
    const running = await this.#running(id);
    if (running.kind === 'reward') return running.model;
    throw wrongKind(`Model '${id}' is a language model: it gives text, not scores.`);
  }

  import(ask: ImportAsk, signal: AbortSignal): Promise<ModelRecord> {
    return this.#importer.import(ask, () => {}, signal);
  }

  async remove(id: string): Promise<void> {
    const resident = this.#residents.get(id);
    // Files may not go while a load reads them; once it runs, it holds them itself.
    await resident?.running.catch(() => {});
    await this.#registry.remove(id);
    if (resident !== undefined) this.#retire(id, resident);
  }

  async loaded(): Promise<readonly LoadedModel[]> {
    const ready = [...this.#residents.values()].flatMap((resident) => resident.ready ?? []);
    return Promise.all(
      ready.map(async ({ kind, model }) => ({
        id: model.id,
        kind,
        stats: kind === 'language' ? await model.stats() : null,
      })),
    );
  }

  /** Loads models before anyone asks. */
  async preload(ids: readonly string[]): Promise<void> {
    await Promise.all(ids.map((id) => this.#running(id)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const residents = [...this.#residents.values()];
    this.#residents.clear();
    await Promise.all(
      residents.map(async ({ running }) => (await running.catch(() => null))?.model[Symbol.asyncDispose]()),
    );
    await Promise.all(this.#retiring);
  }

  async #running(id: string): Promise<Running> {
    return this.#resident(await this.#registry.get(id));
  }

  /** The model in memory; one that was replaced on disk, or whose engine has failed, is loaded anew. */
  async #resident(record: ModelRecord): Promise<Running> {
    const found = this.#residents.get(record.id);
    if (found !== undefined) {
      found.lastUsed = Date.now();
      const running = isSame(found.record, record) ? await found.running : null;
      if (running !== null && running.model.failure === null) return running;
      if (this.#residents.get(record.id) === found) this.#retire(record.id, found);
      return this.#resident(record);
    }
    if (this.#isClosed) throw new AppError('shutting_down', 'The service is draining.');
    const { weightBytes, kvBytes } = planMemory(record, this.#options.engine, this.provider);
    const bytes = weightBytes + kvBytes;
    const running = this.#makeRoom(record.id, bytes).then(() => this.#load(record));
    const resident: Resident = { record, bytes, running, ready: null, lastUsed: Date.now() };
    this.#residents.set(record.id, resident);
    running.then(
      (ready) => {
        resident.ready = ready;
      },
      () => {
        if (this.#residents.get(record.id) === resident) this.#residents.delete(record.id);
      },
    );
    return running;
  }

  async #load(record: ModelRecord): Promise<Running> {
    const { engine, threads, cuda } = this.#options;
    const options = {
      runtime: {
        provider: this.provider,
        ...(threads !== undefined && { threads }),
        ...(cuda !== undefined && { cuda }),
      },
      engine,
      cacheDirectory: preparedDirectory(record.directory),
    };
    return record.kind === 'language'
      ? { kind: 'language', model: await loadTextModel(record, options) }
      : { kind: 'reward', model: new CountedRewardModel(await loadRewardModel(record, options)) };
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
      `Model '${id}' needs ${formatBytes(bytes)} for weights and KV cache; ${formatBytes(Math.max(this.#budget - used(), 0))} of ` +
        `${formatBytes(this.#budget)} are free. Lower SLOTS or CONTEXT_LENGTH, quantise it further, or raise MEMORY_LIMIT_BYTES.`,
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
    const running = await resident.running.catch(() => null);
    if (running === null) return;
    const { model } = running;
    const isDone = async () => this.#isClosed || model.failure !== null || (await isIdle(resident));
    while (!(await isDone())) await sleep(DRAIN_POLL_MS);
    await model[Symbol.asyncDispose]();
  }
}

const wrongKind = (message: string) => new AppError('wrong_model_kind', message, { param: 'model' });

/** A name may be given to another model, by any process. */
const isSame = (left: ModelRecord, right: ModelRecord): boolean =>
  left.contentHash === right.contentHash &&
  left.quantization === right.quantization &&
  left.createdAt.getTime() === right.createdAt.getTime();

async function isIdle({ running, lastUsed }: Resident): Promise<boolean> {
  if (Date.now() - lastUsed < GRACE_MS) return false;
  const ready = await running.catch(() => null);
  if (ready === null) return true;
  if (ready.kind === 'reward') return ready.model.calls === 0;
  const { requestsRunning, requestsWaiting } = await ready.model.stats();
  return requestsRunning + requestsWaiting === 0;
}
