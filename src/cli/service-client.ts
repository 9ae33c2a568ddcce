import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { AppError, type ErrorCode, errorCatalog } from '../core/errors.js';

/** Where the CLI finds the service and with which key. */
export interface ServiceAddress {
  readonly url: string;
  /** INSTRUCTD_URL was set: then nothing else will do. */
  readonly isExplicit: boolean;
  readonly dataDirectory: string;
  /** null: neither INSTRUCTD_API_KEY nor a key file. */
  readonly key: string | null;
}

type Environment = Readonly<Record<string, string | undefined>>;

export async function findService(environment: Environment = process.env): Promise<ServiceAddress> {
  const explicit = environment.INSTRUCTD_URL?.trim();
  const dataDirectory = resolve(environment.DATA_DIR?.trim() || './.instructd');
  const keyFile = () => readFile(join(dataDirectory, 'admin-key'), 'utf8').catch(() => '');
  const key = environment.INSTRUCTD_API_KEY?.trim() || (await keyFile()).trim();
  return {
    url: (explicit || `http://127.0.0.1:${environment.PORT?.trim() || '8080'}`).replace(/\/+$/, ''),
    isExplicit: Boolean(explicit),
    dataDirectory,
    key: key || null,
  };
}

const PROBE_MS = 2_000;

/** The service's HTTP API. Errors come back as the AppError that the service sent. */
export class ServiceClient {
  readonly url: string;
  readonly #address: ServiceAddress;

  constructor(address: ServiceAddress) {
    this.url = address.url;
    this.#address = address;
  }

  /** False where nothing listens. Throws where something else than instructd does. */
  async isRunning(): Promise<boolean> {
    const answer = await fetch(`${this.url}/healthz`, { signal: AbortSignal.timeout(PROBE_MS) }).catch(
      () => null,
    );
    if (answer === null) return false;
    const body = (await answer.json().catch(() => null)) as { readonly status?: unknown } | null;
    if (answer.ok && body?.status === 'ok') return true;
    throw new AppError(
      'configuration_invalid',
      `${this.url} answers, but not as instructd; set INSTRUCTD_URL (or PORT) to where the service is.`,
      { param: 'INSTRUCTD_URL' },
    );
  }

  async call<Answer>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<Answer> {
    const response = await this.#send(method, path, body);
    return (await response.json()) as Answer;
  }

  /** The data of each server-sent event up to [DONE]; an error event is thrown. */
  async *stream<Event extends object>(path: string, body: unknown): AsyncGenerator<Event> {
    const response = await this.#send('POST', path, body);
    let rest = '';
    for await (const text of (response.body as ReadableStream<Uint8Array>).pipeThrough(
      new TextDecoderStream(),
    )) {
      const events = (rest + text).split('\n\n');
      rest = events.pop() ?? '';
      for (const event of events) {
        if (!event.startsWith('data: ')) continue;
        const data = event.slice('data: '.length);
        if (data === '[DONE]') return;
        const parsed = JSON.parse(data) as Event | { readonly error: ErrorBody };
        if ('error' in parsed) throw fromBody(parsed.error as ErrorBody, response.status);
        yield parsed;
      }
    }
    throw new AppError('internal_error', `${this.url} closed the stream before its end.`);
  }

  async #send(method: string, path: string, body: unknown): Promise<Response> {
    const { key } = this.#address;
    const request: RequestInit = {
      method,
      headers: {
        ...(key !== null && { authorization: `Bearer ${key}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    };
    const response = await fetch(this.url + path, request).catch((error: unknown) => {
      throw new AppError(
        'shutting_down',
        `No service at ${this.url}; start one with 'instructd serve', or set INSTRUCTD_URL.`,
        { cause: error },
      );
    });
    if (response.ok) return response;
    const answer = (await response.json().catch(() => null)) as { readonly error?: ErrorBody } | null;
    throw this.#refusal(answer?.error ?? {}, response.status);
  }

  #refusal(error: ErrorBody, status: number): AppError {
    if (status !== 401) return fromBody(error, status);
    const { key, dataDirectory } = this.#address;
    const tried = key === null ? `no key was found in ${dataDirectory}` : 'its key was refused';
    return new AppError(
      'invalid_api_key',
      `${this.url} needs a key and ${tried}; set INSTRUCTD_API_KEY, or DATA_DIR to the service's own.`,
    );
  }
}

interface ErrorBody {
  readonly message?: string;
  readonly code?: string | null;
  readonly param?: string | null;
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(errorCatalog, code);

function fromBody({ message, code, param }: ErrorBody, status: number): AppError {
  return new AppError(
    code && isErrorCode(code) ? code : 'internal_error',
    message ?? `The service answered ${status} without a reason.`,
    param ? { param } : {},
  );
}
