import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type RunningServer, untilReady } from './peers/llama-cpp.js';
import { type Bits, decodeTokens, output, type Peer, promptIds, type SingleStream } from './peers/peer.js';
import { decodeRateOf, streamSse } from './streams.js';

const program = fileURLToPath(new URL('../../bin/instructd', import.meta.url));
const key = 'bench-admin-key';
const quantization = { 8: 'int8', 4: 'int4' } as const satisfies Record<Bits, string>;

export const slots = 16;
export const contextLength = 1024;

/** Our own server on this machine, with what only its own process can tell. */
export interface OurServer extends RunningServer {
  readonly process: ChildProcess;
  /** From the start of the process to the first 200 of /readyz. */
  readonly secondsToReady: number;
}

export interface ServeOptions {
  readonly slots: number;
  readonly contextLength: number;
}

/** Imports the checkpoint once a width and serves it, preloaded, until disposed. */
export class OurService {
  constructor(
    readonly dataDirectory: string,
    readonly checkpoint: string,
  ) {}

  #environment(port: number, options: ServeOptions): NodeJS.ProcessEnv {
    return {
      ...process.env,
      PORT: String(port),
      DATA_DIR: this.dataDirectory,
      INSTRUCTD_API_KEY: key,
      INSTRUCTD_URL: `http://127.0.0.1:${port}`,
      PROVIDER: 'cpu',
      THREADS: String(availableParallelism()),
      SLOTS: String(options.slots),
      CONTEXT_LENGTH: String(options.contextLength),
      LOG_LEVEL: 'warn',
    };
  }

  async start(bits: Bits, port: number, options: ServeOptions): Promise<OurServer> {
    const model = `bench-${quantization[bits]}`;
    const environment = { ...this.#environment(port, options), PRELOAD: model };
    const start = performance.now();
    const child = spawn(process.execPath, [program, 'serve'], { stdio: 'inherit', env: environment });
    const url = `http://127.0.0.1:${port}`;
    await untilReady(`${url}/readyz`);
    const secondsToReady = (performance.now() - start) / 1000;
    return { url, key, model, process: child, secondsToReady, [Symbol.asyncDispose]: () => stop(child) };
  }

  /** Lists `bench-int8` or `bench-int4` and fills its quantised cache. */
  async import(bits: Bits, port: number): Promise<void> {
    const environment = this.#environment(port, { slots, contextLength });
    const child = spawn(process.execPath, [program, 'serve'], { stdio: 'inherit', env: environment });
    await untilReady(`http://127.0.0.1:${port}/readyz`);
    try {
      const listed = await fetch(`http://127.0.0.1:${port}/v1/models/bench-${quantization[bits]}`, {
        headers: { authorization: `Bearer ${key}` },
      });
      if (listed.ok) return;
      const name = `bench-${quantization[bits]}`;
      const args = [
        'models',
        'import',
        this.checkpoint,
        '--name',
        name,
        '--quantization',
        quantization[bits],
      ];
      Object.assign(process.env, { INSTRUCTD_API_KEY: key, INSTRUCTD_URL: `http://127.0.0.1:${port}` });
      await output(process.execPath, [program, ...args]);
    } finally {
      await stop(child);
    }
  }
}

const stop = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (child.exitCode !== null) return resolve();
    child.once('close', () => resolve());
    child.kill('SIGTERM');
  });

/** Single-stream figures over HTTP, from a server that is freshly started and warmed for each measurement, like the peers. */
export function oursOverHttp(service: OurService, port: number): Peer {
  return {
    name: 'instructd',
    async measure(bits: Bits): Promise<SingleStream> {
      await using server = await service.start(bits, port, { slots: 1, contextLength: 2048 });
      await streamSse(server, promptIds(16, 1), 4);
      const decodeAt = async (depth: number) =>
        decodeRateOf(await streamSse(server, promptIds(depth, 2), decodeTokens + 1));
      const decodeAt64 = await decodeAt(64);
      const decodeAt1024 = await decodeAt(1024);
      const prefill = await streamSse(server, promptIds(512, 3), 1);
      return { decodeAt64, decodeAt1024, prefill512: (512 * 1000) / (prefill.firstToken - prefill.start) };
    },
  };
}

/** Largest resident set of a process so far, in bytes (Linux). */
export function peakResidentBytes(pid: number): number {
  const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1024;
}
