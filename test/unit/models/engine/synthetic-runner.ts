import type { SlotIndex, TokenId } from '../../../../src/core/units.js';
import type { DecodeRow, ModelRunner, PrefillRun } from '../../../../src/models/engine/model-runner.js';

/**
 * A model whose next-token logits are a hash of everything its slot holds up to the position, read from slot memory as attention would.
 * A scheduler that mixes slots up, reuses a stale prefix or skips a position changes the text.
 */
export class SyntheticRunner implements ModelRunner {
  readonly vocabularySize = 64;
  version = 'one';
  /** [slot][position] */
  readonly memory: number[][];
  readonly calls: { kind: 'prefill' | 'decode'; tokens: number }[] = [];
  failOn: TokenId | null = null;

  constructor(slots: number) {
    this.memory = Array.from({ length: slots }, () => []);
  }

  prefill({ slot, tokens, from, logits }: PrefillRun): Float32Array[] {
    this.calls.push({ kind: 'prefill', tokens: tokens.length });
    for (const [offset, token] of tokens.entries()) this.#write(slot, from + offset, token);
    const all = tokens.map((_, offset) => this.#logits(slot, from + offset));
    return logits === 'all' ? all : logits === 'last' ? all.slice(-1) : [];
  }

  decode(rows: readonly DecodeRow[]): Float32Array[] {
    this.calls.push({ kind: 'decode', tokens: rows.length });
    return rows.map(({ slot, token, position }) => {
      this.#write(slot, position, token);
      return this.#logits(slot, position);
    });
  }

  copyPrefix(from: SlotIndex, to: SlotIndex, length: number): void {
    this.memory[to] = (this.memory[from] as number[]).slice(0, length);
  }

  swap(a: SlotIndex, b: SlotIndex): void {
    const left = this.memory[a] as number[];
    this.memory[a] = this.memory[b] as number[];
    this.memory[b] = left;
  }

  [Symbol.dispose](): void {}

  #write(slot: SlotIndex, position: number, token: TokenId): void {
    if (token === this.failOn) throw new Error('the device is gone');
    const memory = this.memory[slot] as number[];
    if (memory.length < position) throw new Error(`slot ${slot} has a hole before position ${position}`);
    memory[position] = token + (this.version === 'one' ? 0 : 7);
  }

  #logits(slot: SlotIndex, position: number): Float32Array {
    let hash = 0x811c9dc5;
    for (const token of (this.memory[slot] as number[]).slice(0, position + 1)) {
      hash = Math.imul(hash ^ (token + 1), 0x01000193) >>> 0;
    }
    return Float32Array.from({ length: this.vocabularySize }, (_, id) => {
      const mixed = Math.imul(hash ^ Math.imul(id + 1, 0x9e3779b1), 0x85ebca6b) >>> 0;
      return (mixed / 2 ** 32) * 6;
    });
  }
}
