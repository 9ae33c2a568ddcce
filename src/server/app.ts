import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import cors from '@fastify/cors';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import websocket from '@fastify/websocket';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { AppError } from '../core/errors.js';
import type { Keys } from './auth.js';
import { bindContract, type Contract, type Handlers, type SocketHandlers } from './contract.js';
import { MOST_JSON_LEVELS, nestsDeeper } from './json-depth.js';
import type { ServerParts } from './parts.js';
import { errorBody, retryAfterSeconds, statusOf, toProblem } from './problem.js';
import { chatRoutes } from './routes/chat.js';
import { completionRoutes } from './routes/completions.js';
import { modelRoutes } from './routes/models.js';
import { operationRoutes } from './routes/operations.js';
import { responseRoutes } from './routes/responses.js';
import { rewardRoutes } from './routes/rewards.js';
import { tokenRoutes } from './routes/tokens.js';

const HEADER_BYTES = 16 * 1024;
/** For the whole of a request's headers and body to arrive. */
const REQUEST_MS = 120_000;

export interface AppParts extends ServerParts {
  readonly keys: Keys;
}

/** The HTTP application over its parts; it never listens. Throws where contract and handlers differ. */
export async function buildApp(parts: AppParts): Promise<FastifyInstance> {
  const { config, contract } = parts;
  const app: FastifyInstance = Fastify({
    logger: { level: config.logLevel },
    genReqId: requestId,
    bodyLimit: config.bodyLimitBytes,
    requestTimeout: REQUEST_MS,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 256 },
    http: { maxHeaderSize: HEADER_BYTES },
    clientErrorHandler: refuseConnection,
    frameworkErrors: (error, request, reply) => answerError(error, request, reply as FastifyReply),
  });
  app.setErrorHandler(answerError);
  app.setNotFoundHandler((request, reply) => answerError(notFound(contract, request, reply), request, reply));
  if (config.corsOrigins.length > 0)
    await app.register(cors, {
      origin: [...config.corsOrigins],
      exposedHeaders: ['x-request-id', 'retry-after'],
    });
  await app.register(websocket, {
    options: { maxPayload: config.bodyLimitBytes, perMessageDeflate: false },
  });
  readJson(app);
  guard(app, parts);
  await serveDocs(app, contract);
  const { connectCompletions, ...completions } = completionRoutes(parts);
  const { connectChatCompletions, ...chat } = chatRoutes(parts);
  const { connectResponses, ...responses } = responseRoutes(parts);
  const handlers: Handlers = {
    ...completions,
    ...chat,
    ...responses,
    ...tokenRoutes(parts),
    ...rewardRoutes(parts),
    ...modelRoutes(parts),
    ...operationRoutes(parts),
  };
  const sockets: SocketHandlers = { connectCompletions, connectChatCompletions, connectResponses };
  bindContract(app, contract, handlers, sockets);
  return app;
}

/** JSON as Fastify reads it, but an empty body is as good as none: some clients label a DELETE as JSON. */
function readJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, text, done) =>
    text === '' ? done(null, undefined) : parse(request, flatEnough(String(text)), done),
  );
}

/** Throws `invalid_json`. */
function flatEnough(json: string): string {
  if (!nestsDeeper(json, MOST_JSON_LEVELS)) return json;
  throw new AppError('invalid_json', `The body nests deeper than ${MOST_JSON_LEVELS} levels`);
}

/** The caller's own id where it sent a harmless one, so that its log and ours can be joined. */
function requestId(request: {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : `req_${randomUUID()}`;
}

/** What every request goes through before its handler and after its answer; the key is checked before a byte of the body is read. */
function guard(app: FastifyInstance, { keys, drain, metrics }: AppParts): void {
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    if (drain.draining) reply.header('connection', 'close');
    if (isPublic(request)) return;
    keys.check(request.headers.authorization);
    if (request.ws) return drain.admit(); // Its lanes enter one by one.
    const entered = drain.enter();
    reply.raw.once('close', () => entered[Symbol.dispose]());
  });
  app.addHook('onSend', async (_request, reply) => {
    reply.header('openai-processing-ms', Math.round(reply.elapsedTime));
  });
  app.addHook('onResponse', async (request, reply) => {
    metrics.answered(routeOf(request), reply.statusCode, reply.elapsedTime / 1000);
  });
}

/** Path in the contract, so that a label has few values whatever is asked for. */
const routeOf = ({ routeOptions }: FastifyRequest): string =>
  routeOptions.config.operation === undefined ? 'other' : routeOptions.url!;

/** Operations with `security: []` in the contract, and the docs page with its files. */
const isPublic = ({ routeOptions }: FastifyRequest): boolean =>
  routeOptions.config.public === true || routeOptions.url?.startsWith('/docs') === true;

async function serveDocs(app: FastifyInstance, { document }: Contract): Promise<void> {
  await app.register(swagger, {
    mode: 'static',
    specification: { document: structuredClone(document) as never },
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: true,
    // The badge would send the contract's address to a validator on the internet.
    uiConfig: { validatorUrl: null, persistAuthorization: true },
  });
}

function answerError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = toProblem(thrown);
  if (error.kind === 'internal') request.log.error({ err: thrown }, 'request failed');
  const seconds = retryAfterSeconds(error);
  if (seconds !== null) reply.header('retry-after', seconds);
  if (error.kind === 'unauthenticated') reply.header('www-authenticate', 'Bearer');
  return reply.status(statusOf(error)).send(errorBody(error));
}

function notFound({ operations }: Contract, request: FastifyRequest, reply: FastifyReply): AppError {
  const path = request.url.split('?')[0]!;
  const here = operations.filter((operation) =>
    new RegExp(`^${operation.path.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(path),
  );
  if (here.length === 0) return new AppError('not_found', `No such path: ${request.method} ${path}`);
  const allowed = here.map(({ method }) => method).join(', ');
  reply.header('allow', allowed);
  return new AppError('method_not_allowed', `${path} has no ${request.method}, only ${allowed}`);
}

/** Answers bytes that never became a request. */
function refuseConnection(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const problem =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new AppError('headers_too_large', `The request line and headers are over ${HEADER_BYTES} bytes`)
      : new AppError('bad_request', 'The bytes on the connection are not a request of HTTP/1.1');
  const body = JSON.stringify(errorBody(problem));
  socket.end(
    `HTTP/1.1 ${statusOf(problem)} Refused\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
