import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';
import WebSocket from 'ws';
import { openModelPool } from '../../../src/models/file-model-pool.js';
import { readConfig } from '../../../src/server/config.js';
import { startServer } from '../../../src/server/main.js';
import { sharedPath } from '../../shared.js';
import { checkAnswer } from './contract-check.js';

/** A real server with a real model on a port of its own. */

export const MODEL = 'smollm2';
export const KEY = 'service-test-key';
export const PROMPT = 'Once upon a time, in a small village by the sea,';
const dist = fileURLToPath(new URL('../../../', import.meta.url));
export const bin = join(dist, '..', 'bin', 'instructd');

/**
 * A data directory with the model in float32, whose text does not depend on what else is in a batch, imported once for all files of
 * one test run and copied for each server.
 */
export async function dataDirectory(): Promise<string> {
  const runs = join(dist, 'service-data');
  const prepared = join(runs, String(process.ppid));
  if (!existsSync(join(prepared, 'ready'))) {
    for (const stale of existsSync(runs) ? readdirSync(runs) : [])
      rmSync(join(runs, stale), { recursive: true });
    mkdirSync(prepared, { recursive: true });
    const checkpoint = join(prepared, 'checkpoint');
    execFileSync(process.execPath, [sharedPath('models', 'unpack.mjs'), checkpoint]);
    const importing = ['models', 'import', checkpoint, '--name', MODEL, '--quantization', 'none'];
    execFileSync(bin, importing, {
      env: { ...process.env, DATA_DIR: join(prepared, 'data'), PORT: '1' },
      stdio: 'pipe',
    });
    rmSync(checkpoint, { recursive: true });
    mkdirSync(join(prepared, 'ready'));
  }
  const own = await mkdtemp(join(tmpdir(), 'instructd-service-'));
  await cp(join(prepared, 'data'), own, { recursive: true, mode: 0 });
  return own;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: a test reads what it then asserts
  readonly body: any;
}

export class TestServer {
  readonly url: string;
  readonly client: OpenAI;
  readonly stop: () => Promise<void>;

  constructor(url: string, stop: () => Promise<void>) {
    this.url = url;
    this.stop = stop;
    this.client = new OpenAI({ baseURL: `${url}/v1`, apiKey: KEY, maxRetries: 0 });
  }

  fetch(path: string, body?: unknown, options: RequestInit = {}): Promise<Response> {
    return fetch(this.url + path, {
      method: body === undefined ? 'GET' : 'POST',
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      ...options,
      headers: {
        authorization: `Bearer ${KEY}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(options.headers as Record<string, string> | undefined),
      },
    });
  }

  /** JSON, held against the contract. */
  async call(path: string, body?: unknown, options: RequestInit = {}): Promise<Answer> {
    const response = await this.fetch(path, body, options);
    const text = await response.text();
    const value: unknown = JSON.parse(text);
    const method = options.method ?? (body === undefined ? 'GET' : 'POST');
    checkAnswer(method, path, response.status, response.headers.get('content-type') ?? '', value);
    return { status: response.status, headers: response.headers, body: value };
  }

  async metric(name: string): Promise<number> {
    const text = await (await this.fetch('/metrics')).text();
    const line = text.split('\n').find((candidate) => candidate.startsWith(`instructd_${name}{`));
    return Number(line?.split(' ').at(-1));
  }

  /** Fails unless every slot is free soon: one step of the engine and a message are enough. */
  async slotsAreFree(withinMs = 2000): Promise<void> {
    const deadline = performance.now() + withinMs;
    let busy = await this.metric('slots_busy');
    while (busy + (await this.metric('requests_waiting')) > 0 && performance.now() < deadline) {
      await sleep(20);
      busy = await this.metric('slots_busy');
    }
    assert.equal(busy, 0, 'slots are still busy');
    assert.equal(await this.metric('requests_waiting'), 0, 'requests still wait');
  }

  async socket(
    path: string,
    headers: Record<string, string> = { authorization: `Bearer ${KEY}` },
  ): Promise<WebSocket> {
    const socket = new WebSocket(this.url.replace('http', 'ws') + path, { headers });
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    return socket;
  }
}

/** Starts a server in this process; whoever starts it stops it. */
export async function startTestServer(
  environment: Readonly<Record<string, string>> = {},
): Promise<TestServer> {
  const directory = environment.DATA_DIR ?? (await dataDirectory());
  const config = readConfig({
    DATA_DIR: directory,
    PORT: '0',
    LOG_LEVEL: 'error',
    INSTRUCTD_API_KEY: KEY,
    PROVIDER: 'cpu',
    PRELOAD: MODEL,
    DRAIN_SECONDS: '0',
    ...environment,
  });
  const server = await startServer(config, openModelPool, () => {});
  return new TestServer(server.url, async () => {
    await server.stop();
    await rm(directory, { recursive: true });
  });
}

/** Data of the events of an SSE body, as they were framed. */
export const eventsOf = (body: string): readonly string[] =>
  body
    .split('\n\n')
    .flatMap((event) => event.split('\n').filter((line) => line.startsWith('data: ')))
    .map((line) => line.slice('data: '.length));
