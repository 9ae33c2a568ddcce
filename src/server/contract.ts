import { readFileSync } from 'node:fs';
import type { WebSocket } from '@fastify/websocket';
import { type ErrorObject, Ajv2020 as JsonSchema, type ValidateFunction } from 'ajv/dist/2020.js';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { parse } from 'yaml';
import { AppError } from '../core/errors.js';
import type { components, operations } from './contract.gen.js';

/** openapi.yaml as the server uses it: which operations there are, what their bodies must be, and who handles them. */

export type Schemas = components['schemas'];
export type OperationId = keyof operations;
type Responses<Id extends OperationId> = operations[Id]['responses'];
/** Operations that answer 101 Switching Protocols. */
export type SocketOperationId = {
  [Id in OperationId]: Responses<Id> extends { readonly 101: unknown } ? Id : never;
}[OperationId];
export type HttpOperationId = Exclude<OperationId, SocketOperationId>;

export type BodyOf<Id extends OperationId> = operations[Id] extends {
  readonly requestBody: { readonly content: { readonly 'application/json': infer Body } };
}
  ? Body
  : undefined;
type PathOf<Id extends OperationId> = operations[Id]['parameters'] extends { readonly path: infer Path }
  ? Path
  : undefined;
type QueryOf<Id extends OperationId> = operations[Id]['parameters'] extends { readonly query?: infer Query }
  ? Query
  : undefined;
type AnswerOf<Id extends HttpOperationId> = {
  [Status in keyof Responses<Id>]: Status extends 200 | 201
    ? Responses<Id>[Status] extends { content: infer Content }
      ? Content[keyof Content]
      : never
    : never;
}[keyof Responses<Id>];

/** One request whose body keeps the contract, with the defaults of the contract filled in. */
export interface Call<Id extends HttpOperationId> {
  readonly body: BodyOf<Id>;
  readonly path: PathOf<Id>;
  readonly query: QueryOf<Id>;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}
/** Returns what is sent as JSON, or the reply if it has written to it itself. */
export type Handlers = {
  readonly [Id in HttpOperationId]: (call: Call<Id>) => Promise<AnswerOf<Id> | FastifyReply>;
};
export type SocketHandlers = {
  readonly [Id in SocketOperationId]: (socket: WebSocket, request: FastifyRequest) => void;
};

export interface Operation {
  readonly id: string;
  readonly method: string;
  /** As in the contract: /v1/models/{id}. */
  readonly path: string;
  readonly isPublic: boolean;
  readonly isSocket: boolean;
  readonly hasBody: boolean;
}

interface OperationObject {
  readonly operationId: string;
  readonly security?: readonly unknown[];
  readonly requestBody?: unknown;
  readonly responses: Readonly<Record<string, unknown>>;
}
export interface ContractDocument {
  readonly paths: Readonly<Record<string, Readonly<Record<string, OperationObject>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}

const methods = new Set(['get', 'put', 'post', 'delete', 'patch']);

export class Contract {
  readonly document: ContractDocument;
  readonly operations: readonly Operation[];
  readonly #schemas = new JsonSchema({
    strict: false,
    validateSchema: false,
    useDefaults: true,
    verbose: true,
  });
  readonly #validators = new Map<string, ValidateFunction>();

  constructor(document: ContractDocument) {
    this.document = document;
    this.#schemas.addSchema(document, 'contract');
    this.operations = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.entries(item)
        .filter(([method]) => methods.has(method))
        .map(([method, operation]) => ({
          id: operation.operationId,
          method: method.toUpperCase(),
          path,
          isPublic: operation.security?.length === 0,
          isSocket: '101' in operation.responses,
          hasBody: operation.requestBody !== undefined,
        })),
    );
    // Compiled now: the first request should not pay for it, and a broken reference should fail the boot.
    for (const operation of this.operations) if (operation.hasBody) this.#bodyValidator(operation);
  }

  /** The contract that this build was made with. */
  static load(): Contract {
    const path = new URL('../../../openapi.yaml', import.meta.url);
    return new Contract(parse(readFileSync(path, 'utf8')) as ContractDocument);
  }

  /**
   * A body checked against its operation; defaults are filled in and top-level nulls are as if absent.
   * @throws AppError `invalid_json`, `missing_required_parameter`, `unknown_parameter`, `unsupported_parameter`, `invalid_value`.
   */
  body<Id extends OperationId>(id: Id, value: unknown): BodyOf<Id> {
    const operation = this.operations.find((candidate) => candidate.id === id)!;
    if (!operation.hasBody) return undefined as BodyOf<Id>;
    return checked(this.#bodyValidator(operation), value) as BodyOf<Id>;
  }

  /** A frame of a socket, checked against a named schema. Throws as `body` does. */
  frame<Name extends keyof Schemas>(name: Name, value: unknown): Schemas[Name] {
    return checked(this.#validator(`/components/schemas/${name}`), value) as Schemas[Name];
  }

  #bodyValidator({ path, method }: Operation): ValidateFunction {
    const pointer = path
      .replaceAll('~', '~0')
      .replaceAll('/', '~1')
      .replaceAll('{', '%7B')
      .replaceAll('}', '%7D');
    const body = `/paths/${pointer}/${method.toLowerCase()}/requestBody`;
    return this.#validator(`${body}/content/application~1json/schema`);
  }

  #validator(pointer: string): ValidateFunction {
    const known = this.#validators.get(pointer);
    if (known !== undefined) return known;
    const validator = this.#schemas.compile({ $ref: `contract#${pointer}` });
    this.#validators.set(pointer, validator);
    return validator;
  }
}

function checked(validator: ValidateFunction, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new AppError('invalid_json', 'The body must be a JSON object');
  const fields = value as Record<string, unknown>;
  for (const name of Object.keys(fields)) if (fields[name] === null) delete fields[name];
  if (!validator(fields)) throw violation(validator.errors ?? []);
  return fields;
}

/** Keywords that only say that one of several others failed. */
const summaries = new Set(['anyOf', 'oneOf', 'propertyNames']);

const pathOf = ({ instancePath }: ErrorObject): string => instancePath.slice(1).replaceAll('/', '.');
const within = (path: string, field: string): string => (path === '' ? field : `${path}.${field}`);

/** Of alternatives that all failed, the one that got further into the body is the one that was meant. */
function isFurther(left: ErrorObject, right: ErrorObject): boolean {
  const [a, b] = [left.instancePath.split('/'), right.instancePath.split('/')];
  return a.length === b.length ? Number(a.at(-1)) > Number(b.at(-1)) : a.length > b.length;
}

/** The failure that says most: a field that is refused by name, else what is wrong deepest inside the body. */
function violation(errors: readonly ErrorObject[]): AppError {
  const refused = errors.find(({ parentSchema }) => parentSchema?.['x-refused'] !== undefined);
  if (refused !== undefined) {
    const param = pathOf(refused);
    const reason = String(refused.parentSchema?.['x-refused']);
    return new AppError('unsupported_parameter', `'${param}' is not supported: ${reason}`, { param });
  }
  const telling = errors.filter(({ keyword }) => !summaries.has(keyword));
  const deepest = telling.reduce((best, error) => (isFurther(error, best) ? error : best), telling[0]!);
  const path = pathOf(deepest);
  const { missingProperty, additionalProperty, unevaluatedProperty } = deepest.params as Record<
    string,
    string
  >;
  if (missingProperty !== undefined) {
    const param = within(path, missingProperty);
    return new AppError('missing_required_parameter', `'${param}' is required`, { param });
  }
  const unknown = additionalProperty ?? unevaluatedProperty;
  if (unknown !== undefined) {
    const param = within(path, unknown);
    return new AppError('unknown_parameter', `'${param}' is not a field of this operation`, { param });
  }
  const problems = telling.filter((error) => error.instancePath === deepest.instancePath).map(wording);
  return new AppError('invalid_value', `'${path}' ${[...new Set(problems)].join(', or ')}`, { param: path });
}

function wording({ keyword, message, params, propertyName }: ErrorObject): string {
  if (keyword === 'enum') return `must be one of ${(params.allowedValues as unknown[]).join(', ')}`;
  if (propertyName !== undefined) return `has the key '${propertyName}', which ${message}`;
  return message ?? 'is not valid';
}

/**
 * Registers every operation of the contract with its handler.
 * @throws AppError `internal_error` when an operation has no handler or a handler no operation, so that such a build does not boot.
 */
export function bindContract(
  app: FastifyInstance,
  contract: Contract,
  handlers: Handlers,
  sockets: SocketHandlers,
): void {
  const handled = new Set([...Object.keys(handlers), ...Object.keys(sockets)]);
  const missing = contract.operations.filter(({ id }) => !handled.delete(id)).map(({ id }) => id);
  if (missing.length > 0 || handled.size > 0)
    throw new AppError(
      'internal_error',
      `openapi.yaml and the handlers differ: operations without a handler [${missing.join(', ')}], handlers without an operation [${[...handled].join(', ')}]`,
    );
  for (const operation of contract.operations)
    app.route({
      method: operation.method,
      url: operation.path.replaceAll(/\{(\w+)\}/g, ':$1'),
      config: { operation: operation.id, public: operation.isPublic },
      ...(operation.isSocket
        ? { handler: refusePlainGet, wsHandler: sockets[operation.id as SocketOperationId] }
        : { handler: handle(contract, operation.id as HttpOperationId, handlers) }),
    });
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Id in the contract. */
    operation?: string;
    /** Needs no key. */
    public?: boolean;
  }
}

const handle =
  <Id extends HttpOperationId>(contract: Contract, id: Id, handlers: Handlers) =>
  async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> =>
    handlers[id]({
      body: contract.body(id, request.body),
      path: request.params as PathOf<Id>,
      query: request.query as QueryOf<Id>,
      request,
      reply,
    });

async function refusePlainGet(_request: FastifyRequest, reply: FastifyReply): Promise<never> {
  reply.header('upgrade', 'websocket');
  throw new AppError(
    'upgrade_required',
    'This path answers GET only as a WebSocket; upgrade, or send a POST',
  );
}
