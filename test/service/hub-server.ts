import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A model hub on this machine, speaking the protocol of huggingface.co as far as a download sees it. */

export interface HostedModel {
  readonly commit: string;
  /** Branches and tags that name the commit. */
  readonly revisions: readonly string[];
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Who may read it: everyone, or the holder of this token. */
  readonly token?: string;
}

/** Large files are kept apart, listed by SHA-256, and served by redirect from another origin. */
const LARGE = 64 * 1024;
const PAGE = 4;

const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');
const gitHash = (data: Uint8Array) =>
  createHash('sha1').update(`blob ${data.length}\0`).update(data).digest('hex');

export class HubServer implements AsyncDisposable {
  readonly models = new Map<string, HostedModel>();
  /** `METHOD path range` of every request, and whether it carried a key. */
  readonly requests: { readonly line: string; readonly origin: 'hub' | 'storage'; readonly key: boolean }[] =
    [];
  /** Bytes of each large file's answer after which the connection breaks; the list is used up one an answer. */
  breakAfter: number[] = [];
  /** Answers of these statuses come first, one a request. */
  failWith: number[] = [];
  /** Sends other bytes than listed. */
  corrupt = false;
  readonly #hub: Server;
  readonly #storage: Server;

  private constructor() {
    this.#hub = createServer((request, response) => this.#answer(request, response));
    this.#storage = createServer((request, response) => this.#answerLarge(request, response));
  }

  static async start(): Promise<HubServer> {
    const server = new HubServer();
    for (const part of [server.#hub, server.#storage])
      await new Promise<void>((resolve) => part.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const part of [this.#hub, this.#storage]) {
      part.closeAllConnections();
      await new Promise((resolve) => part.close(resolve));
    }
  }

  #note(request: IncomingMessage, origin: 'hub' | 'storage'): void {
    const { method, url, headers } = request;
    this.requests.push({
      line: `${method} ${url}${headers.range ? ` ${headers.range}` : ''}`,
      origin,
      key: headers.authorization !== undefined,
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): ServerResponse {
    this.#note(request, 'hub');
    const failure = this.failWith.shift();
    if (failure !== undefined) return refuse(response, failure, 'busy');
    const url = new URL(request.url ?? '/', this.endpoint);
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/.exec(url.pathname);
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    const [name, revision] = api ? [api[1], api[3]] : [file?.[1], file?.[2]];
    const model = this.models.get(name ?? '');
    if (model === undefined) return refuse(response, 401, 'Invalid username or password.', 'RepoNotFound');
    if (model.token !== undefined && request.headers.authorization !== `Bearer ${model.token}`)
      return refuse(response, 403, 'Access to this model is restricted.', 'GatedRepo');
    const decoded = decodeURIComponent(revision ?? '');
    if (decoded !== model.commit && !model.revisions.includes(decoded))
      return refuse(response, 404, `Invalid rev id: ${decoded}`, 'RevisionNotFound');
    if (api?.[2] === 'revision')
      return json(response, { _id: 'x', id: name, sha: model.commit, private: false });
    if (api?.[2] === 'tree') return this.#tree(model, url, response);
    return this.#resolve(model, file?.[3] ?? '', request, response);
  }

  #tree(model: HostedModel, url: URL, response: ServerResponse): ServerResponse {
    const start = Number(url.searchParams.get('cursor') ?? 0);
    const all = [...model.files].map(([path, data]) => ({
      type: 'file',
      path,
      size: data.length,
      oid: gitHash(data),
      ...(data.length >= LARGE && { lfs: { oid: sha256(data), size: data.length, pointerSize: 134 } }),
    }));
    if (start + PAGE < all.length) {
      url.searchParams.set('cursor', String(start + PAGE));
      response.setHeader('link', `<${url.href}>; rel="next"`);
    }
    return json(response, all.slice(start, start + PAGE));
  }

  #resolve(
    model: HostedModel,
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
  ): ServerResponse {
    const data = model.files.get(path);
    if (data === undefined) return refuse(response, 404, 'Entry not found', 'EntryNotFound');
    response.setHeader('x-repo-commit', model.commit);
    if (data.length < LARGE) {
      response.setHeader('etag', `"${gitHash(data)}"`);
      return sendRange(request, response, data);
    }
    response.setHeader('x-linked-etag', `"${sha256(data)}"`);
    response.setHeader('x-linked-size', data.length);
    if (request.headers.accept?.includes('application/vnd.xet-fileinfo+json')) {
      response.setHeader('x-xet-hash', sha256(data));
      response.setHeader(
        'link',
        `<${this.endpoint}/xet/auth>; rel="xet-auth", <${this.endpoint}/xet/reconstruction>; rel="xet-reconstruction-info"`,
      );
      response.setHeader('content-type', 'application/vnd.xet-fileinfo+json');
      return response.end('{}');
    }
    const { port } = this.#storage.address() as AddressInfo;
    return response.writeHead(302, { location: `http://127.0.0.1:${port}/${sha256(data)}` }).end();
  }

  #answerLarge(request: IncomingMessage, response: ServerResponse): ServerResponse {
    this.#note(request, 'storage');
    const data = [...this.models.values()]
      .flatMap(({ files }) => [...files.values()])
      .find((bytes) => bytes.length >= LARGE && request.url === `/${sha256(bytes)}`);
    if (data === undefined) return refuse(response, 404, 'no such object');
    const sent = this.corrupt ? data.map((byte) => byte ^ 1) : data;
    return sendRange(request, response, sent, this.breakAfter.shift());
  }
}

function sendRange(
  request: IncomingMessage,
  response: ServerResponse,
  data: Uint8Array,
  breakAfter?: number,
): ServerResponse {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const from = Number(range?.[1] ?? 0);
  const to = Math.min(range?.[2] ? Number(range[2]) + 1 : data.length, data.length);
  if (range) response.setHeader('content-range', `bytes ${from}-${to - 1}/${data.length}`);
  response.writeHead(range ? 206 : 200, { 'accept-ranges': 'bytes', 'content-length': to - from });
  if (breakAfter === undefined) return response.end(data.subarray(from, to));
  response.write(data.subarray(from, from + breakAfter), () => setTimeout(() => response.destroy(), 20));
  return response;
}

function json(response: ServerResponse, body: unknown): ServerResponse {
  response.setHeader('content-type', 'application/json; charset=utf-8');
  return response.end(JSON.stringify(body));
}

function refuse(response: ServerResponse, status: number, error: string, code?: string): ServerResponse {
  if (code !== undefined) response.setHeader('x-error-code', code);
  response.statusCode = status;
  return json(response, { error });
}
