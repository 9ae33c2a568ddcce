/** A process that adds forty names to a registry while others do the same, and reports to its parent how many it won. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FileRegistry } from '../../../src/models/file-registry.js';
import type { ModelRecord } from '../../../src/models/registry.js';

/** A record ready to be added, with a weights file in its staged directory. */
export async function staged(registry: FileRegistry, id: string, weights = 'w'): Promise<ModelRecord> {
  const directory = await registry.stage();
  await writeFile(join(directory, 'model.safetensors'), weights);
  return {
    id,
    kind: 'language',
    directory,
    quantization: 'int8',
    architecture: 'llama',
    parameters: 42,
    contextLength: 2048,
    contentHash: 'ab'.repeat(32),
    createdAt: new Date('2026-01-02T03:04:05.678Z'),
    source: { type: 'hub', location: 'acme/tiny', revision: 'main' },
  };
}

async function contend(data: string, weights: string): Promise<number> {
  const registry = new FileRegistry(data);
  let won = 0;
  for (let round = 0; round < 40; round++) {
    try {
      await registry.add(await staged(registry, `model-${round}`, weights));
      won++;
    } catch (error) {
      if ((error as { code?: string }).code !== 'model_exists') throw error;
    }
    for (const { directory } of await registry.list())
      if (!/^process \d$/.test(await readFile(join(directory, 'model.safetensors'), 'utf8')))
        throw new Error(`${directory} is not whole`);
  }
  return won;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [data = '', weights = ''] = process.argv.slice(2);
  process.send?.(await contend(data, weights));
}
