import type { FastifyInstance } from 'fastify';
import { AppError } from '../core/errors.js';
import type { ModelPool, ModelPoolOptions } from '../models/model-pool.js';
import { buildApp } from './app.js';
import { keysOf, loadAdminKey, SAFE_KEY_LENGTH } from './auth.js';
import type { ServerConfig } from './config.js';
import { Contract } from './contract.js';
import { Drain } from './limits.js';
import { Metrics } from './metrics.js';

/** The process: configuration, wiring, listening, draining. */

export interface RunningServer {
  readonly url: string;
  readonly app: FastifyInstance;
  /** Takes nothing more, lets what runs finish for DRAIN_SECONDS, then closes sockets and models. */
  stop(): Promise<void>;
}

export type OpenModelPool = (options: ModelPoolOptions) => Promise<ModelPool>;

/**
 * Starts a server and resolves when it takes requests.
 * @param announce Told, once, of an admin key that was made just now.
 */
export async function startServer(
  config: ServerConfig,
  openModelPool: OpenModelPool,
  announce: (line: string) => void,
): Promise<RunningServer> {
  const contract = Contract.load();
  const adminKey = await loadAdminKey(config.dataDirectory, config.apiKey);
  const pool = await openModelPool(config.models);
  const drain = new Drain();
  const parts = { config, contract, pool, drain, metrics: new Metrics(pool), keys: keysOf(adminKey.key) };
  try {
    const app = await buildApp(parts);
    const url = await listen(app, config);
    if (adminKey.created) announce(`API key (made now, kept in ${adminKey.path}): ${adminKey.key}`);
    announce(pool.providerChoice);
    if (adminKey.key.length < SAFE_KEY_LENGTH)
      app.log.warn(`the admin key is short: use ${SAFE_KEY_LENGTH} characters or more where others reach it`);
    announce(`instructd listens on ${url}, docs on ${url}/docs, models run on ${pool.provider}`);
    return { url, app, stop: () => stop(app, pool, drain, config.drainSeconds) };
  } catch (thrown) {
    await pool[Symbol.asyncDispose]();
    throw thrown;
  }
}

/** What the system says when a port or a host cannot be had, and which variable asks for another. */
const listenProblems: Readonly<Record<string, readonly [variable: string, problem: string]>> = {
  EADDRINUSE: ['PORT', 'is in use by another process'],
  EACCES: ['PORT', 'may not be opened by this user'],
  EADDRNOTAVAIL: ['HOST', 'is not an address of this machine'],
  ENOTFOUND: ['HOST', 'is not a known host'],
  EAI_AGAIN: ['HOST', 'could not be looked up'],
};

/** @throws AppError `configuration_invalid` that names PORT or HOST. */
async function listen(app: FastifyInstance, { port, host }: ServerConfig): Promise<string> {
  try {
    return await app.listen({ port, host });
  } catch (thrown) {
    const known = listenProblems[(thrown as NodeJS.ErrnoException).code ?? ''];
    if (known === undefined) throw thrown;
    const [param, problem] = known;
    throw new AppError('configuration_invalid', `${param}: ${host}:${port} ${problem}`, {
      param,
      cause: thrown,
    });
  }
}

async function stop(
  app: FastifyInstance,
  pool: ModelPool,
  drain: Drain,
  drainSeconds: number,
): Promise<void> {
  const cutOff = await drain.drain(drainSeconds * 1000);
  if (cutOff > 0) app.log.warn({ cutOff }, `cut off after ${drainSeconds} s of draining`);
  await app.close();
  await pool[Symbol.asyncDispose]();
}

/** `instructd serve`: runs until SIGTERM or SIGINT, which drain; a second one exits at once. */
export async function serve(config: ServerConfig, openModelPool: OpenModelPool): Promise<void> {
  const server = await startServer(config, openModelPool, (line) => console.error(line));
  await new Promise<void>((resolve, reject) => {
    let stopping = false;
    const onSignal = (signal: NodeJS.Signals) => {
      if (stopping) process.exit(1);
      stopping = true;
      server.app.log.info(`${signal}: draining`);
      server.stop().then(resolve, reject);
    };
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  });
  process.exit(0); // Nothing of the service is left; a native thread that lingers must not keep the process.
}
