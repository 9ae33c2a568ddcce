import { type SlotIndex, slotIndex, type TokenId } from '../../core/units.js';

/** Where a prompt goes, and how much of it need not be computed. */
export interface Placement {
  readonly slot: SlotIndex;
  /** Prompt tokens whose keys and values are there once the copy is done. */
  readonly reused: number;
  /** Slot to copy those tokens' keys and values from; null where they are in place already. */
  readonly copyFrom: SlotIndex | null;
}

interface Slot {
  readonly index: SlotIndex;
  busy: boolean;
  /** Tokens whose keys and values the slot holds, from position 0; kept after release, as cache. */
  tokens: TokenId[];
  /** The model version that computed them. */
  version: string;
  lastUsed: number;
}

/**
 * The slots of the KV cache and what each holds. A released slot keeps its content until it is taken again, so the slots are the prefix
 * cache: a prompt is compared with every slot (busy ones too) and the longest common prefix of the same model version is reused. With
 * at most a few dozen slots a scan costs microseconds; a tree would buy nothing.
 */
export class SlotTable {
  readonly #slots: Slot[];
  #clock = 0;

  constructor(slots: number) {
    this.#slots = Array.from({ length: slots }, (_, index) => ({
      index: slotIndex(index),
      busy: false,
      tokens: [],
      version: '',
      lastUsed: 0,
    }));
  }

  get size(): number {
    return this.#slots.length;
  }

  get busy(): number {
    let busy = 0;
    for (const slot of this.#slots) if (slot.busy) busy++;
    return busy;
  }

  /** Tokens that the slot holds. */
  held(index: SlotIndex): number {
    return this.#at(index).tokens.length;
  }

  /**
   * Takes a free slot for a prompt; null where none is free.
   * @param maxReuse Prompt tokens that may come from the cache: one less than all where the last token's logits are needed.
   */
  acquire(prompt: readonly TokenId[], maxReuse: number, version: string): Placement | null {
    const victim = this.#leastValuable();
    if (victim === null) return null;
    const { source, length } = this.#longestPrefix(prompt, maxReuse, version);
    if (source === null) return this.#place(victim, [], version, null);
    // In place, unless that would throw away what another prompt may still share and another slot can be had.
    const inPlace = !source.busy && (source === victim || source.tokens.length === length);
    const reused = source.tokens.slice(0, length);
    return inPlace
      ? this.#place(source, reused, version, null)
      : this.#place(victim, reused, version, source.index);
  }

  /** Keys and values of these tokens now follow what the slot held. */
  append(index: SlotIndex, tokens: readonly TokenId[]): void {
    const held = this.#at(index).tokens;
    for (const token of tokens) held.push(token);
  }

  /** Makes the slot free; its content stays as cache. */
  release(index: SlotIndex): void {
    const slot = this.#at(index);
    slot.busy = false;
    slot.lastUsed = ++this.#clock;
  }

  /** Makes the slot free and forgets its content: after a failed run nobody knows what it holds. */
  discard(index: SlotIndex): void {
    this.release(index);
    this.#at(index).tokens = [];
  }

  /** Exchanges what two slots hold and who owns them, as the KV cache does with their memory. */
  swap(a: SlotIndex, b: SlotIndex): void {
    const left = this.#at(a);
    const right = this.#at(b);
    this.#slots[a] = { ...right, index: a };
    this.#slots[b] = { ...left, index: b };
  }

  #place(slot: Slot, tokens: TokenId[], version: string, copyFrom: SlotIndex | null): Placement {
    slot.busy = true;
    slot.tokens = tokens;
    slot.version = version;
    slot.lastUsed = ++this.#clock;
    return { slot: slot.index, reused: tokens.length, copyFrom };
  }

  /** An empty slot, else the one longest unused. */
  #leastValuable(): Slot | null {
    let best: Slot | null = null;
    for (const slot of this.#slots) {
      if (slot.busy) continue;
      if (slot.tokens.length === 0) return slot;
      if (best === null || slot.lastUsed < best.lastUsed) best = slot;
    }
    return best;
  }

  #longestPrefix(prompt: readonly TokenId[], maxReuse: number, version: string) {
    let source: Slot | null = null;
    let length = 0;
    for (const slot of this.#slots) {
      if (slot.version !== version) continue;
      const common = commonPrefix(prompt, slot.tokens, maxReuse);
      if (common > length) {
        source = slot;
        length = common;
      }
    }
    return { source, length };
  }

  #at(index: SlotIndex): Slot {
    return this.#slots[index] as Slot;
  }
}

function commonPrefix(a: readonly TokenId[], b: readonly TokenId[], most: number): number {
  const end = Math.min(a.length, b.length, most);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}
