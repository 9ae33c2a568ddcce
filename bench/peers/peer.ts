import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Weight width that both sides of a comparison use. */
export type Bits = 8 | 4;

/** One stream alone, in tokens per second. */
export interface SingleStream {
  readonly decodeAt64: number;
  readonly decodeAt1024: number;
  readonly prefill512: number;
}

/** A library or program that serves the same weights, measured in a process of its own. */
export interface Peer {
  readonly name: string;
  /** Null where it was not installed. */
  measure(bits: Bits): Promise<SingleStream>;
}

/** Where bench/peers/install.sh puts the peers. */
export const peersRoot = fileURLToPath(new URL('../../../.bench/', import.meta.url));

/** Tokens decoded a measurement. */
export const decodeTokens = 48;

/** The same arbitrary prompt for everybody: ids from a small linear congruence, clear of the special ids. */
export function promptIds(length: number, salt = 0): number[] {
  return Array.from({ length }, (_, i) => 1000 + ((i * 7919 + salt * 104729) % 40000));
}

/** Path of an installed peer's file. Throws with the command that installs it. */
export function installed(...path: string[]): string {
  const file = join(peersRoot, ...path);
  if (!existsSync(file))
    throw new Error(`${file} is missing: run bench/peers/install.sh CHECKPOINT_DIR MODEL.gguf`);
  return file;
}

/** Runs a program and returns its standard output; its standard error is shown only when it fails. */
export function output(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let [text, complaint] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(text);
      else reject(new Error(`${command} exited with ${code}: ${complaint.slice(-800)}`));
    });
  });
}

/** Runs one of this folder's scripts in a process of its own; its last line of output is the figures. */
export async function figuresOf(script: string, bits: Bits): Promise<SingleStream> {
  const text = await output(process.execPath, [
    fileURLToPath(new URL(script, import.meta.url)),
    String(bits),
  ]);
  return JSON.parse(text.trim().split('\n').at(-1) ?? '') as SingleStream;
}

/** Tokens per second between the first and the last of these times in milliseconds: prefill is not in it. */
export function decodeRate(times: readonly number[]): number {
  const [first, last] = [times[0], times.at(-1)];
  if (first === undefined || last === undefined || times.length < 2)
    throw new Error('fewer than two tokens came back');
  return ((times.length - 1) * 1000) / (last - first);
}
