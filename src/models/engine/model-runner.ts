import type { SlotIndex, TokenId } from '../../core/units.js';

/** A run of consecutive prompt tokens in one slot. */
export interface PrefillRun {
  readonly slot: SlotIndex;
  readonly tokens: readonly TokenId[];
  /** Position of tokens[0]; the slot holds everything before it. */
  readonly from: number;
  /** Which positions' logits are wanted. */
  readonly logits: 'none' | 'last' | 'all';
}

/** One token in one slot. */
export interface DecodeRow {
  readonly slot: SlotIndex;
  readonly token: TokenId;
  /** The token's position; the slot holds everything before it. */
  readonly position: number;
}

/** What an engine needs of a model: the arithmetic and the memory of its KV cache. Calls block until the result is there. */
export interface ModelRunner extends Disposable {
  readonly vocabularySize: number;
  /** Names the weights. Keys and values computed under one version are never used under another. */
  readonly version: string;
  /** Logits float32 [vocabulary] a wanted position, in order. Valid until the next call. */
  prefill(run: PrefillRun): readonly Float32Array[];
  /** @param rows By ascending slot. Logits float32 [vocabulary] a row, in order. Valid until the next call. */
  decode(rows: readonly DecodeRow[]): readonly Float32Array[];
  /** Copies keys and values of positions [0, length). */
  copyPrefix(from: SlotIndex, to: SlotIndex, length: number): void;
  /** Exchanges two slots' keys and values; the lengths are what each holds. */
  swap(a: SlotIndex, b: SlotIndex, length: number): void;
}
