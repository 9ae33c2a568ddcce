import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { type Bits, decodeTokens, installed, output, type Peer, type SingleStream } from './peer.js';

interface BenchLine {
  readonly n_prompt: number;
  readonly n_gen: number;
  readonly n_depth: number;
  readonly avg_ts: number;
}

/** llama.cpp built for this CPU, by its own llama-bench. */
export const llamaCpp: Peer = {
  name: 'llama.cpp (native)',
  async measure(bits: Bits): Promise<SingleStream> {
    const lines = [
      ...(await llamaBench(bits, ['-p', '512', '-n', '0'])),
      ...(await llamaBench(bits, ['-p', '0', '-n', String(decodeTokens), '-d', '64,1024'])),
    ];
    const rate = (prompt: number, depth: number) =>
      lines.find((l) => l.n_prompt === prompt && l.n_depth === depth)?.avg_ts ?? Number.NaN;
    return { prefill512: rate(512, 0), decodeAt64: rate(0, 64), decodeAt1024: rate(0, 1024) };
  },
};

async function llamaBench(bits: Bits, args: readonly string[]): Promise<BenchLine[]> {
  const model = installed('models', `Q${bits}_0.gguf`);
  const common = ['-m', model, '-t', String(availableParallelism()), '-r', '1', '-o', 'jsonl'];
  const text = await output(installed('llama', 'build', 'bin', 'llama-bench'), [...common, ...args]);
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as BenchLine);
}

/** A server that speaks OpenAI's completions on this machine, until disposed. */
export interface RunningServer extends AsyncDisposable {
  readonly url: string;
  readonly key: string;
  readonly model: string;
}

/** llama-server with 16 slots of 1,024 positions. */
export async function startLlamaServer(bits: Bits, port: number): Promise<RunningServer> {
  const model = installed('models', `Q${bits}_0.gguf`);
  const args = [
    '-m',
    model,
    '-np',
    '16',
    '-c',
    String(16 * 1024),
    '-t',
    String(availableParallelism()),
    '--host',
    '127.0.0.1',
    '--port',
    String(port),
  ];
  const child = spawn(installed('llama', 'build', 'bin', 'llama-server'), args, { stdio: 'ignore' });
  const url = `http://127.0.0.1:${port}`;
  await untilReady(`${url}/health`);
  const stop = () =>
    new Promise<void>((resolve) => {
      child.once('close', () => resolve());
      child.kill('SIGTERM');
    });
  return { url, key: '', model: 'any', [Symbol.asyncDispose]: stop };
}

/** Polls until it answers 200. Throws after a minute. */
export async function untilReady(url: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (Date.now() < deadline) {
    const answer = await fetch(url).catch(() => null);
    if (answer?.status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${url} was not ready within a minute`);
}
