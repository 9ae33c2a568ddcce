import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { AppError } from '../core/errors.js';
import type { ImportAsk } from '../models/model-pool.js';
import type { Quantization } from '../models/registry.js';
import { type CatalogEntry, type ModelCatalog, openCatalog } from './model-catalog.js';
import { formatCount, note, printJson, printTable } from './output.js';
import { openProgress } from './progress.js';

export interface ImportOptions {
  readonly name?: string;
  readonly quantization?: Quantization;
  readonly revision?: string;
  readonly json?: boolean;
}

export interface OutputOptions {
  readonly json?: boolean;
}

/** `instructd models import`. */
export async function importModel(source: string, options: ImportOptions): Promise<void> {
  const { name, quantization, json = false } = options;
  const ask: ImportAsk = {
    source: parseSource(source, options.revision),
    ...(name !== undefined && { name }),
    ...(quantization !== undefined && { quantization }),
  };
  const catalog = await openCatalog();
  if (!json) note(`importing into ${catalog.place}`);
  const model = await importWithProgress(catalog, ask, json);
  if (json) printJson(model);
  else
    process.stdout.write(
      `${model.id}: ${model.architecture}, ${formatCount(model.parameters)} parameters, context ${model.context_length}, quantization ${model.quantization}\n`,
    );
}

async function importWithProgress(
  catalog: ModelCatalog,
  ask: ImportAsk,
  json: boolean,
): Promise<CatalogEntry> {
  using progress = openProgress(process.stderr, json);
  return await catalog.import(ask, progress);
}

/** `instructd models list`. */
export async function listModels({ json = false }: OutputOptions): Promise<void> {
  const catalog = await openCatalog();
  const models = await catalog.list();
  if (json) return printJson({ object: 'list', data: models });
  if (models.length === 0) return note(`no models in ${catalog.place}; 'instructd models import' adds one`);
  printTable(
    ['NAME', 'KIND', 'ARCHITECTURE', 'PARAMETERS', 'CONTEXT', 'QUANTIZATION', 'CREATED', 'SOURCE'],
    models.map((model) => [
      model.id,
      model.kind,
      model.architecture,
      formatCount(model.parameters),
      String(model.context_length),
      model.quantization,
      new Date(model.created * 1000).toISOString().slice(0, 16).replace('T', ' '),
      `${model.source.location}${model.source.revision === undefined ? '' : `@${model.source.revision.slice(0, 12)}`}`,
    ]),
  );
}

/** `instructd models remove`. */
export async function removeModels(names: readonly string[], { json = false }: OutputOptions): Promise<void> {
  const catalog = await openCatalog();
  for (const name of names) {
    await catalog.remove(name);
    if (!json) process.stdout.write(`${name} removed\n`);
  }
  if (json) printJson(names.map((id) => ({ id, object: 'model', deleted: true })));
}

/**
 * A directory that is there, or anything that can only be a path, is a directory; `organisation/name` is a hub's model. The path goes
 * out absolute, since the service has another working directory.
 */
export function parseSource(source: string, revision: string | undefined): ImportAsk['source'] {
  const path = resolve(source);
  const isPath = existsSync(path) || /^[./~\\]/.test(source);
  if (isPath && revision !== undefined)
    throw new AppError('invalid_value', `--revision is for models of a hub; ${path} is a directory.`, {
      param: '--revision',
    });
  if (isPath) return { type: 'directory', path };
  if (/^[\w.-]+\/[\w.-]+$/.test(source))
    return { type: 'hub', repository: source, ...(revision !== undefined && { revision }) };
  throw new AppError(
    'invalid_value',
    `'${source}' is neither a directory that exists nor a hub's organisation/name.`,
    { param: 'source' },
  );
}
