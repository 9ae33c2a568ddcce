/**
 * Every error that instructd throws on purpose. A code is stable: clients, docs/errors.md and tests rely on it.
 * The kind says whose move it is; the server maps it to a status, the CLI to an exit code.
 */

export type ErrorKind =
  | 'invalid' // the caller's input is wrong
  | 'unauthenticated'
  | 'forbidden'
  | 'not_found'
  | 'conflict'
  | 'too_large'
  | 'overloaded' // try again later
  | 'unavailable' // shutting down, or a dependency is away
  | 'cancelled'
  | 'unsupported' // right, but not something this build or model can do
  | 'internal'; // a bug of ours, or the machine

interface ErrorEntry {
  readonly kind: ErrorKind;
  /** What it means and the way out, for docs/errors.md. */
  readonly meaning: string;
}

/** code -> kind and meaning. Add a code here and in docs/errors.md; a test compares the two. */
export const errorCatalog = {
  invalid_value: {
    kind: 'invalid',
    meaning: 'A field has a value outside its range or of the wrong type; `param` names the field.',
  },
  missing_required_parameter: { kind: 'invalid', meaning: 'A required field is absent; `param` names it.' },
  unknown_parameter: {
    kind: 'invalid',
    meaning: 'The body has a field that the operation does not know; `param` names it.',
  },
  unsupported_parameter: {
    kind: 'invalid',
    meaning:
      "The field is part of OpenAI's API but this service refuses it; the message says what to use instead.",
  },
  invalid_json: { kind: 'invalid', meaning: 'The body is not a JSON object.' },
  bad_request: { kind: 'invalid', meaning: 'The bytes on the connection are not a request of HTTP/1.1.' },
  method_not_allowed: {
    kind: 'invalid',
    meaning: 'The path exists, but not with this method; `Allow` lists those it has. Status 405.',
  },
  unsupported_media_type: {
    kind: 'invalid',
    meaning: 'The body is not of a type that the operation reads; send `application/json`. Status 415.',
  },
  upgrade_required: {
    kind: 'invalid',
    meaning: 'The path answers GET only as a WebSocket. Upgrade, or send a POST. Status 426.',
  },
  headers_too_large: {
    kind: 'too_large',
    meaning: 'The request line and headers are over 16 KiB. Status 431.',
  },
  context_length_exceeded: {
    kind: 'invalid',
    meaning: "Prompt and max_tokens together exceed the model's context; the message gives both numbers.",
  },
  invalid_api_key: {
    kind: 'unauthenticated',
    meaning: 'No key, or one that is not known. Send `Authorization: Bearer <key>`.',
  },
  insufficient_scope: { kind: 'forbidden', meaning: 'The key lacks the scope that the operation needs.' },
  model_not_found: { kind: 'not_found', meaning: 'No model of that name. `GET /v1/models` lists them.' },
  not_found: { kind: 'not_found', meaning: 'No such path or object.' },
  model_exists: {
    kind: 'conflict',
    meaning: 'A model of that name exists; delete it or choose another name.',
  },
  wrong_model_kind: {
    kind: 'invalid',
    meaning: 'A reward model was asked for text, or a language model for scores.',
  },
  request_too_large: { kind: 'too_large', meaning: 'The body is over the limit that the message gives.' },
  queue_full: {
    kind: 'overloaded',
    meaning:
      "The engine's queue is full by requests or by queued prompt tokens. Wait for `Retry-After` seconds.",
  },
  too_many_lanes: {
    kind: 'overloaded',
    meaning: 'The WebSocket has as many lanes as one may have; wait for one to end, or open another socket.',
  },
  shutting_down: { kind: 'unavailable', meaning: 'The server is draining; send the request to another one.' },
  request_cancelled: { kind: 'cancelled', meaning: 'The client went away or asked to cancel.' },
  model_not_supported: {
    kind: 'unsupported',
    meaning:
      'The architecture or an option of config.json is not one that instructd can run; the message names it.',
  },
  checkpoint_invalid: {
    kind: 'invalid',
    meaning:
      'A checkpoint file is truncated, lacks a tensor, or a tensor has another shape than config.json says.',
  },
  tokenizer_not_supported: {
    kind: 'unsupported',
    meaning: 'tokenizer.json cannot be represented exactly; the message says which part.',
  },
  chat_template_failed: {
    kind: 'invalid',
    meaning: 'The model has no chat template, or the template refused the messages.',
  },
  invalid_row: {
    kind: 'invalid',
    meaning:
      'A dataset row breaks its schema; `param` gives line and field, the message what is wrong. Nothing of the file was taken.',
  },
  example_too_long: {
    kind: 'invalid',
    meaning:
      "A row's prompt and completion have more tokens than the model's context; `param` gives the line. Shorten it, or let the job skip such rows.",
  },
  empty_completion: {
    kind: 'invalid',
    meaning: 'A completion has no tokens to learn from; `param` gives the line.',
  },
  tokenizer_mismatch: {
    kind: 'invalid',
    meaning:
      "The tokenizer makes ids that the model's embedding table does not hold. Use the tokenizer that the model was trained with.",
  },
  dataset_empty: {
    kind: 'invalid',
    meaning: 'A dataset has no row that can be trained on; the message says what was left out and why.',
  },
  run_mismatch: {
    kind: 'conflict',
    meaning:
      'The last checkpoint is of a run with another configuration or other data. Resume with those, or start in an empty directory.',
  },
  reward_failed: {
    kind: 'unavailable',
    meaning:
      'The reward endpoint of a PPO job refused, timed out, or answered with something else than one number a text. The job stops; its last checkpoint stays.',
  },
  graph_invalid: {
    kind: 'internal',
    meaning: 'A graph failed verification; the message names the node and its axes.',
  },
  runtime_failed: { kind: 'internal', meaning: 'ONNX Runtime returned an error; the message is its own.' },
  engine_failed: {
    kind: 'unavailable',
    meaning: "The model's worker thread died; the message gives the cause. Load the model again.",
  },
  provider_unavailable: {
    kind: 'unavailable',
    meaning: 'PROVIDER=cuda was asked for, but the CUDA library, the driver or a device is missing.',
  },
  out_of_memory: {
    kind: 'unavailable',
    meaning: 'Weights and KV cache do not fit the memory budget; the message gives both numbers.',
  },
  hub_failed: {
    kind: 'unavailable',
    meaning: 'The model hub did not answer or refused; the message gives its answer.',
  },
  configuration_invalid: {
    kind: 'invalid',
    meaning: 'An environment variable or option of the service is wrong; the message names it.',
  },
  internal_error: { kind: 'internal', meaning: 'A bug of ours; the log has the stack under the request id.' },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof errorCatalog;

export interface ErrorOptions {
  /** The request field (dotted path), file, node or variable at fault. */
  readonly param?: string;
  readonly cause?: unknown;
  /** For kind `overloaded` or `unavailable`. */
  readonly retryAfterSeconds?: number;
}

export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: ErrorCode;
  readonly param: string | null;
  readonly retryAfterSeconds: number | null;

  /** @param message One sentence: what is wrong, where, and the way out. */
  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.param = options.param ?? null;
    this.retryAfterSeconds = options.retryAfterSeconds ?? null;
  }

  get kind(): ErrorKind {
    return errorCatalog[this.code].kind;
  }
}

/** What crosses a thread, a process or a socket in place of an AppError. */
export interface SerializedError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly param: string | null;
  readonly retryAfterSeconds: number | null;
}

/** Anything thrown becomes an AppError once, where it is caught; what is not ours is an `internal_error` with its cause. */
export function toAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new AppError('internal_error', message, { cause: thrown });
}

export const serializeError = (thrown: unknown): SerializedError => {
  const { code, message, param, retryAfterSeconds } = toAppError(thrown);
  return { code, message, param, retryAfterSeconds };
};

export const deserializeError = ({ code, message, param, retryAfterSeconds }: SerializedError): AppError =>
  new AppError(code, message, {
    ...(param !== null && { param }),
    ...(retryAfterSeconds !== null && { retryAfterSeconds }),
  });
