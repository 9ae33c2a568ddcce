import type { Handlers } from '../contract.js';
import type { ServerParts } from '../parts.js';

export function operationRoutes({
  contract,
  drain,
  metrics,
}: ServerParts): Pick<Handlers, 'getHealth' | 'getReadiness' | 'getMetrics' | 'getContract'> {
  return {
    async getHealth() {
      return { status: 'ok' };
    },
    async getReadiness() {
      drain.admit();
      return { status: 'ready' };
    },
    async getMetrics({ reply }) {
      reply.header('content-type', metrics.registry.contentType);
      return metrics.registry.metrics();
    },
    async getContract() {
      return { ...contract.document };
    },
  };
}
