import type { FastifyReply } from 'fastify';
import type { ModelPool } from '../models/model-pool.js';
import type { ServerConfig } from './config.js';
import type { Contract } from './contract.js';
import type { GenerationContext } from './generation.js';
import { type Drain, disconnection } from './limits.js';
import type { Metrics } from './metrics.js';

/** What every route is given. */
export interface ServerParts {
  readonly config: ServerConfig;
  readonly contract: Contract;
  readonly pool: ModelPool;
  readonly metrics: Metrics;
  readonly drain: Drain;
}

/** The scope of one HTTP request that generates: it ends when the client goes away. */
export const requestContext = ({ metrics }: ServerParts, reply: FastifyReply): GenerationContext => ({
  metrics,
  route: reply.request.routeOptions.url ?? '',
  receivedAtMs: performance.now() - reply.elapsedTime,
  signal: disconnection(reply),
});
