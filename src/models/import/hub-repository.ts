import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { downloadFile, HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { AppError } from '../../core/errors.js';

export interface HubOptions {
  /** HF_ENDPOINT, without a slash at the end. */
  readonly endpoint: string;
  /** HF_TOKEN; sent to the endpoint only, never to where it redirects. */
  readonly token?: string;
}

export interface HubFile {
  /** A plain file name. */
  readonly path: string;
  readonly size: number;
  /** Hex. Large files are listed with the SHA-256 of their content, small ones with git's SHA-1 of a blob. */
  readonly hash: { readonly algorithm: 'sha256' | 'git-sha1'; readonly digest: string };
}

const ATTEMPTS = 5;
const FIRST_PAUSE_MS = 500;

/** One repository at one commit of a hub. Every method throws `hub_failed` with the hub's answer and the way out. */
export class HubRepository {
  readonly name: string;
  readonly #hub: HubOptions;
  readonly #revision: string;
  readonly #signal: AbortSignal;
  #answered = false;
  readonly #options: {
    readonly repo: { readonly type: 'model'; readonly name: string };
    readonly hubUrl: string;
    readonly fetch: typeof fetch;
  };

  /**
   * @param name     `organisation/name`.
   * @param revision Branch, tag or commit.
   */
  constructor(hub: HubOptions, name: string, revision: string, signal: AbortSignal) {
    this.name = name;
    this.#hub = hub;
    this.#revision = revision;
    this.#signal = signal;
    this.#options = {
      repo: { type: 'model', name },
      hubUrl: hub.endpoint,
      fetch: (input, init) => this.#fetch(input, init),
    };
  }

  /** The commit that the revision names now. */
  async commit(): Promise<string> {
    const info = await this.#retrying(() =>
      modelInfo({ ...this.#options, name: this.name, revision: this.#revision, additionalFields: ['sha'] }),
    );
    return info.sha;
  }

  /** Files at the repository's top, by path. */
  async files(commit: string): Promise<ReadonlyMap<string, HubFile>> {
    return this.#retrying(async () => {
      const files = new Map<string, HubFile>();
      for await (const { type, path, size, lfs, oid } of listFiles({ ...this.#options, revision: commit })) {
        const digest = lfs?.oid.replace('sha256:', '') ?? oid;
        if (type !== 'file' || digest === undefined || !/^[\w.-]+$/.test(path)) continue;
        files.set(path, { path, size, hash: { algorithm: lfs ? 'sha256' : 'git-sha1', digest } });
      }
      return files;
    });
  }

  /**
   * Leaves the whole file, checked, in the directory; does nothing where it is there already, and goes on where an earlier call broke off.
   * @param onReceived Bytes of this file that are on disk.
   */
  async download(
    commit: string,
    file: HubFile,
    directory: string,
    onReceived: (bytes: number) => void,
  ): Promise<void> {
    const path = join(directory, file.path);
    const part = `${path}.part`;
    if ((await sizeOf(path)) === file.size) return onReceived(file.size);
    await this.#retrying(
      () => this.#append(commit, file, part, onReceived),
      () => sizeOf(part),
    );
    if ((await sizeOf(part)) !== file.size || (await hashOf(part, file)) !== file.hash.digest) {
      await rm(part, { force: true });
      throw this.#failure(
        `lists ${file.path} with ${file.size} bytes and ${file.hash.algorithm} ${file.hash.digest}, but sent something else; it was deleted, try again`,
        undefined,
      );
    }
    await rename(part, path);
  }

  async #append(commit: string, file: HubFile, part: string, onReceived: (bytes: number) => void) {
    let received = await sizeOf(part);
    // Plain ranged HTTP, which any mirror speaks, in place of the hub's chunk protocol.
    const blob = await downloadFile({ ...this.#options, path: file.path, revision: commit, xet: false });
    if (blob === null) throw this.#failure(`lists ${file.path} but does not have it`, undefined);
    const handle = await open(part, 'a');
    try {
      if (received >= file.size) return;
      for await (const chunk of (received === 0 ? blob : blob.slice(received, file.size)).stream()) {
        await handle.writeFile(chunk);
        received += chunk.byteLength;
        onReceived(received);
        if (received > file.size) return; // the caller's check refuses it
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (received < file.size) throw new TypeError('the connection closed early');
  }

  /** Tries again after what may pass; an attempt that made progress (`position` grew) does not count. */
  async #retrying<T>(attempt: () => Promise<T>, position: () => Promise<number> = async () => 0): Promise<T> {
    for (let left = ATTEMPTS, pauseMs = FIRST_PAUSE_MS; ; pauseMs *= 2) {
      const before = await position();
      try {
        return await attempt();
      } catch (error) {
        if (this.#signal.aborted || error instanceof AppError || isLocal(error)) throw error;
        const progressed = (await position()) > before;
        left = progressed ? ATTEMPTS : left - 1;
        if (progressed) pauseMs = FIRST_PAUSE_MS;
        if (left <= 0 || !this.#mayPass(error)) throw this.#explain(error);
        await sleep(pauseMs, undefined, { signal: this.#signal });
      }
    }
  }

  /** Broken connections (of a hub that has answered before), limits and the hub's own failures; not refusals. */
  #mayPass(error: unknown): boolean {
    if (isNetwork(error)) return this.#answered;
    return error instanceof HubApiError && (error.statusCode === 429 || error.statusCode >= 500);
  }

  async #fetch(input: string | URL | Request, init: RequestInit = {}): Promise<Response> {
    const url = new URL(input instanceof Request ? input.url : input);
    const headers = new Headers(init.headers);
    if (this.#hub.token !== undefined && url.origin === new URL(this.#hub.endpoint).origin)
      headers.set('authorization', `Bearer ${this.#hub.token}`);
    const response = await fetch(input, { ...init, headers, signal: this.#signal });
    this.#answered = true;
    return response;
  }

  #explain(error: unknown): AppError {
    if (isNetwork(error))
      return this.#failure(
        `cannot be reached (${rootMessage(error)}); check HF_ENDPOINT and the network, or import a directory`,
        error,
      );
    if (!(error instanceof HubApiError))
      return this.#failure(`does not answer as a hub does (${rootMessage(error)}); check HF_ENDPOINT`, error);
    const { statusCode, data } = error;
    const says = typeof data?.error === 'string' ? `: ${data.error.replace(/\.$/, '')}` : '';
    return this.#failure(
      `answered ${statusCode} for ${this.name} at '${this.#revision}'${says}; ${this.#advice(statusCode)}`,
      error,
    );
  }

  #advice(status: number): string {
    if (status === 404) return 'check the name and the revision';
    if (status !== 401 && status !== 403) return 'try again later';
    // The hub answers 401 for a name that does not exist, so that it gives no private name away.
    return this.#hub.token === undefined
      ? 'the model does not exist, or it is private or gated: set HF_TOKEN to a token that may read it'
      : 'HF_TOKEN may not read it: accept the conditions on its page or use another token';
  }

  #failure(what: string, cause: unknown): AppError {
    return new AppError('hub_failed', `The hub at ${this.#hub.endpoint} ${what}.`, { cause });
  }
}

/** fetch throws a TypeError; a stream of the hub's library that breaks gives the bare message. */
const isNetwork = (error: unknown): boolean =>
  (error instanceof TypeError && !('code' in error)) || typeof error === 'string';

/** The disk's fault, not the hub's. */
const isLocal = (error: unknown): boolean => error instanceof Error && 'syscall' in error && 'path' in error;

function rootMessage(error: unknown): string {
  let root = error;
  while (root instanceof Error && root.cause !== undefined) root = root.cause;
  return root instanceof Error ? root.message || root.name : String(root);
}

async function hashOf(path: string, { hash: { algorithm }, size }: HubFile): Promise<string> {
  const hash = algorithm === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

const sizeOf = (path: string): Promise<number> =>
  stat(path).then(
    ({ size }) => size,
    () => 0,
  );
