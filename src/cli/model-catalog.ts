import type { ImportAsk } from '../models/model-pool.js';
import type { ModelRecord } from '../models/registry.js';
import type { Progress } from './progress.js';
import { findService, type ServiceAddress, ServiceClient } from './service-client.js';

/** A model as GET /v1/models shows it, as far as the CLI does. */
export interface CatalogEntry {
  readonly id: string;
  readonly kind: ModelRecord['kind'];
  readonly architecture: string;
  readonly parameters: number;
  readonly context_length: number;
  readonly quantization: ModelRecord['quantization'];
  readonly content_hash: string;
  /** Seconds since the epoch. */
  readonly created: number;
  readonly source: ModelRecord['source'];
}

/** The models, behind a running service or in DATA_DIR itself. */
export interface ModelCatalog {
  /** For people: where changes go. */
  readonly place: string;
  list(): Promise<readonly CatalogEntry[]>;
  import(ask: ImportAsk, progress: Progress): Promise<CatalogEntry>;
  remove(id: string): Promise<void>;
}

/** The service's where one runs; else DATA_DIR's, so that a first model can be there before the first start. */
export async function openCatalog(): Promise<ModelCatalog> {
  const address = await findService();
  const client = new ServiceClient(address);
  if (address.isExplicit || (await client.isRunning())) return new ServiceCatalog(client);
  return new DirectoryCatalog(address);
}

class ServiceCatalog implements ModelCatalog {
  readonly place: string;
  readonly #client: ServiceClient;

  constructor(client: ServiceClient) {
    this.place = `the service at ${client.url}`;
    this.#client = client;
  }

  async list(): Promise<readonly CatalogEntry[]> {
    return (await this.#client.call<{ readonly data: readonly CatalogEntry[] }>('GET', '/v1/models')).data;
  }

  async import(ask: ImportAsk, progress: Progress): Promise<CatalogEntry> {
    progress.show({ label: `import by ${this.place}`, of: null });
    return this.#client.call('POST', '/v1/models', ask);
  }

  async remove(id: string): Promise<void> {
    await this.#client.call('DELETE', `/v1/models/${encodeURIComponent(id)}`);
  }
}

class DirectoryCatalog implements ModelCatalog {
  readonly place: string;
  readonly #dataDirectory: string;

  constructor({ url, dataDirectory }: ServiceAddress) {
    this.place = `${dataDirectory} (no service runs at ${url})`;
    this.#dataDirectory = dataDirectory;
  }

  async #registry() {
    const { FileRegistry } = await import('../models/file-registry.js');
    return new FileRegistry(this.#dataDirectory);
  }

  async list(): Promise<readonly CatalogEntry[]> {
    return (await (await this.#registry()).list()).map(entryOf);
  }

  async import(ask: ImportAsk, progress: Progress): Promise<CatalogEntry> {
    const [{ Importer }, { readConfig }] = await Promise.all([
      import('../models/import/importer.js'),
      import('../server/config.js'),
    ]);
    const { models } = readConfig();
    const importer = new Importer(await this.#registry(), {
      ...models,
      contextLength: models.engine.contextLength,
    });
    const abort = new AbortController();
    const interrupt = () => abort.abort();
    process.once('SIGINT', interrupt);
    process.once('SIGTERM', interrupt);
    try {
      const record = await importer.import(
        ask,
        ({ stage, done, total }) => progress.show({ label: stage, of: total === 0 ? null : { done, total } }),
        abort.signal,
      );
      return entryOf(record);
    } finally {
      process.off('SIGINT', interrupt);
      process.off('SIGTERM', interrupt);
    }
  }

  async remove(id: string): Promise<void> {
    await (await this.#registry()).remove(id);
  }
}

const entryOf = (record: ModelRecord): CatalogEntry => ({
  id: record.id,
  kind: record.kind,
  architecture: record.architecture,
  parameters: record.parameters,
  context_length: record.contextLength,
  quantization: record.quantization,
  content_hash: record.contentHash,
  created: Math.floor(record.createdAt.getTime() / 1000),
  source: record.source,
});
