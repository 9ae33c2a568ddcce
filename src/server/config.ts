import { resolve } from 'node:path';
import { AppError } from '../core/errors.js';
import type { ModelPoolOptions } from '../models/model-pool.js';

/** Everything that a running service can be told, parsed once. The only reader of process.env in the server. */
export interface ServerConfig {
  /** 0 takes a free one. */
  readonly port: number;
  readonly host: string;
  readonly dataDirectory: string;
  readonly logLevel: LogLevel;
  /** The admin key; null: the one kept in the data directory, or a new one. */
  readonly apiKey: string | null;
  /** Origins that browsers may call from; empty: no CORS headers at all. */
  readonly corsOrigins: readonly string[];
  readonly bodyLimitBytes: number;
  /** How long open streams may finish after SIGTERM. */
  readonly drainSeconds: number;
  /** A reader that takes nothing for this long is disconnected, so that it does not hold a slot. */
  readonly stallSeconds: number;
  /** Lanes of one WebSocket. */
  readonly lanesPerSocket: number;
  readonly models: ModelPoolOptions;
}

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * @param environment Variables as strings; one that is unset or empty takes its default.
 * @throws AppError `configuration_invalid` that names the variable, its value and what it may be.
 */
export function readConfig(environment: Environment = process.env): ServerConfig {
  const { text, list, oneOf, integer } = reader(environment);
  const threads = integer('THREADS', 0, { least: 0, most: 1024 });
  const memoryBytes = integer('MEMORY_LIMIT_BYTES', 0, { least: 0, most: Number.MAX_SAFE_INTEGER });
  const cudaMemoryBytes = integer('CUDA_MEMORY_LIMIT_BYTES', 0, { least: 0, most: Number.MAX_SAFE_INTEGER });
  const token = text('HF_TOKEN', '');
  const dataDirectory = resolve(text('DATA_DIR', './.instructd'));
  return {
    port: integer('PORT', 8080, { least: 0, most: 65535 }),
    host: text('HOST', '127.0.0.1'),
    dataDirectory,
    logLevel: oneOf('LOG_LEVEL', 'info', logLevels),
    apiKey: apiKeyOf(text('INSTRUCTD_API_KEY', '')),
    corsOrigins: list('CORS_ORIGINS'),
    bodyLimitBytes: integer('BODY_LIMIT_BYTES', 16 * 2 ** 20, { least: 1024, most: 2 ** 31 }),
    drainSeconds: integer('DRAIN_SECONDS', 30, { least: 0, most: 3600 }),
    stallSeconds: integer('STALL_SECONDS', 60, { least: 1, most: 3600 }),
    lanesPerSocket: integer('LANES_PER_SOCKET', 64, { least: 1, most: 4096 }),
    models: {
      directory: dataDirectory,
      provider: oneOf('PROVIDER', 'auto', ['auto', 'cpu', 'cuda']),
      ...(threads > 0 && { threads }),
      cuda: {
        deviceId: integer('CUDA_DEVICE', 0, { least: 0, most: 1023 }),
        ...(cudaMemoryBytes > 0 && { memoryLimitBytes: cudaMemoryBytes }),
        arenaExtend: oneOf('CUDA_ARENA', 'same_as_requested', ['same_as_requested', 'next_power_of_two']),
        graphs: oneOf('CUDA_GRAPHS', 'off', ['off', 'on']) === 'on',
      },
      ...(memoryBytes > 0 && { memoryBytes }),
      preload: list('PRELOAD'),
      hub: {
        endpoint: text('HF_ENDPOINT', 'https://huggingface.co').replace(/\/+$/, ''),
        ...(token !== '' && { token }),
      },
      engine: {
        slots: integer('SLOTS', 16, { least: 1, most: 1024 }),
        contextLength: integer('CONTEXT_LENGTH', 2048, { least: 16, most: 2 ** 20 }),
        prefillChunk: integer('PREFILL_CHUNK', 128, { least: 1, most: 65536 }),
        maxQueuedRequests: integer('MAX_QUEUED_REQUESTS', 512, { least: 1, most: 2 ** 20 }),
        maxQueuedPromptTokens: integer('MAX_QUEUED_PROMPT_TOKENS', 2 ** 18, { least: 1, most: 2 ** 30 }),
        laneBuffer: integer('LANE_BUFFER', 64, { least: 1, most: 65536 }),
      },
    },
  };
}

function apiKeyOf(value: string): string | null {
  if (value === '') return null;
  if (/^[\x21-\x7e]{1,512}$/.test(value)) return value;
  throw invalid('INSTRUCTD_API_KEY', 'must be 1 to 512 visible ASCII characters without spaces');
}

const invalid = (name: string, problem: string): AppError =>
  new AppError('configuration_invalid', `${name} ${problem}`, { param: name });

function reader(environment: Environment) {
  const text = (name: string, otherwise: string): string => environment[name]?.trim() || otherwise;
  const list = (name: string): readonly string[] =>
    text(name, '')
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
  const oneOf = <Choice extends string>(
    name: string,
    otherwise: NoInfer<Choice>,
    choices: readonly Choice[],
  ): Choice => {
    const value = text(name, otherwise);
    const choice = choices.find((known) => known === value);
    if (choice === undefined) throw invalid(name, `is '${value}', but must be one of ${choices.join(', ')}`);
    return choice;
  };
  const integer = (
    name: string,
    otherwise: number,
    { least, most }: { least: number; most: number },
  ): number => {
    const value = text(name, String(otherwise));
    const number = Number(value);
    if (!Number.isInteger(number) || number < least || number > most)
      throw invalid(name, `is '${value}', but must be a whole number from ${least} to ${most}`);
    return number;
  };
  return { text, list, oneOf, integer };
}
