import type { FastifyError } from 'fastify';
import { AppError, type ErrorCode, type ErrorKind, toAppError } from '../core/errors.js';
import type { components } from './contract.gen.js';

/** Anything thrown, as OpenAI's error body and a status. */

export type ErrorBody = components['schemas']['Error'];
type OpenAiErrorType = ErrorBody['error']['type'];

const answers = {
  invalid: { status: 400, type: 'invalid_request_error' },
  unauthenticated: { status: 401, type: 'authentication_error' },
  forbidden: { status: 403, type: 'permission_error' },
  not_found: { status: 404, type: 'invalid_request_error' },
  conflict: { status: 409, type: 'invalid_request_error' },
  too_large: { status: 413, type: 'invalid_request_error' },
  unsupported: { status: 422, type: 'invalid_request_error' },
  overloaded: { status: 429, type: 'rate_limit_error' },
  cancelled: { status: 499, type: 'invalid_request_error' },
  internal: { status: 500, type: 'server_error' },
  unavailable: { status: 503, type: 'server_error' },
} as const satisfies Record<ErrorKind, { status: number; type: OpenAiErrorType }>;

/** Where HTTP has a status of its own for what is otherwise one of a kind. */
const statusOfCode: Partial<Record<ErrorCode, number>> = {
  method_not_allowed: 405,
  unsupported_media_type: 415,
  upgrade_required: 426,
  headers_too_large: 431,
};

export const statusOf = (error: AppError): number => statusOfCode[error.code] ?? answers[error.kind].status;

/** What is not ours is told to the log, never to the caller: its message may hold paths or parts of another's request. */
export const errorBody = (error: AppError): ErrorBody => ({
  error: {
    message:
      error.code === 'internal_error'
        ? 'The server failed; its log has the cause under the request id'
        : error.message,
    type: answers[error.kind].type,
    param: error.param,
    code: error.code,
  },
});

/** Seconds for `Retry-After`, where trying again makes sense. */
export const retryAfterSeconds = (error: AppError): number | null =>
  error.kind === 'overloaded' || error.kind === 'unavailable'
    ? Math.max(1, Math.ceil(error.retryAfterSeconds ?? 1))
    : null;

/** Fastify's own refusals (body parsing and limits) by their code. */
const fastifyRefusals: Readonly<Record<string, (error: FastifyError) => AppError>> = {
  FST_ERR_CTP_INVALID_JSON_BODY: () => new AppError('invalid_json', 'The body is not valid JSON'),
  FST_ERR_CTP_INVALID_MEDIA_TYPE: () =>
    new AppError('unsupported_media_type', 'The body must be sent as content-type: application/json'),
  FST_ERR_CTP_BODY_TOO_LARGE: () =>
    new AppError('request_too_large', 'The body is over the limit of this service (BODY_LIMIT_BYTES)'),
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: () =>
    new AppError('bad_request', 'The body is not as long as content-length says'),
  FST_ERR_BAD_URL: () => new AppError('bad_request', 'The path is not a valid URL'),
  FST_ERR_MAX_PARAM_LENGTH: () => new AppError('not_found', 'No such path'),
};

/** @param thrown By a handler, a hook, or Fastify itself. */
export function toProblem(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown;
  const { code, statusCode } = thrown as Partial<FastifyError>;
  const refusal = code === undefined ? undefined : fastifyRefusals[code];
  if (refusal !== undefined) return refusal(thrown as FastifyError);
  if (statusCode === 400 && thrown instanceof SyntaxError)
    return new AppError('invalid_json', 'The body is not valid JSON');
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return new AppError('bad_request', (thrown as Error).message, { cause: thrown });
  return toAppError(thrown);
}
