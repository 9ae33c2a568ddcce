import type { ModelRecord } from '../../models/registry.js';
import type { Provider } from '../../models/runtime/session.js';
import type { Handlers, Schemas } from '../contract.js';
import { disconnection } from '../limits.js';
import type { ServerParts } from '../parts.js';

export function modelRoutes({
  pool,
}: ServerParts): Pick<Handlers, 'listModels' | 'getModel' | 'importModel' | 'deleteModel'> {
  return {
    async listModels() {
      const records = await pool.list();
      return { object: 'list', data: records.map((record) => modelOf(record, pool.provider)) };
    },
    async getModel({ path }) {
      return modelOf(await pool.get(path.id), pool.provider);
    },
    async importModel({ body, reply }) {
      const record = await pool.import(body, disconnection(reply));
      reply.status(201);
      return modelOf(record, pool.provider);
    },
    async deleteModel({ path }) {
      await pool.remove(path.id);
      return { id: path.id, object: 'model', deleted: true };
    },
  };
}

const modelOf = (record: ModelRecord, provider: Provider): Schemas['Model'] => ({
  id: record.id,
  object: 'model',
  created: Math.floor(record.createdAt.getTime() / 1000),
  owned_by: 'instructd',
  kind: record.kind,
  architecture: record.architecture,
  parameters: record.parameters,
  context_length: record.contextLength,
  quantization: record.quantization,
  provider,
  content_hash: record.contentHash,
  source: record.source,
});
