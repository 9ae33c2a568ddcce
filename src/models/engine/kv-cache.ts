import type { SlotIndex } from '../../core/units.js';
import type { Binding, DeviceTensor, RunPlaces, Runtime } from '../runtime/session.js';
import {
  type KvLayout,
  kvShape,
  pastKeyName,
  pastValueName,
  presentKeyName,
  presentValueName,
} from '../transformer/decoder.js';

type KvType = KvLayout['type'];

/**
 * Keys and values of every slot: two tensors a layer, each [slots, heads, length, headDim], bound as past and present at once. A
 * prefix is contiguous within a head only, so a copy is a run a head, one call a tensor; nothing passes through the host.
 */
export class KvCache implements Disposable {
  readonly #layout: KvLayout;
  readonly #length: number;
  readonly #keys: readonly DeviceTensor<KvType>[];
  readonly #values: readonly DeviceTensor<KvType>[];
  /** Of each slot, position 0 of each tensor: [slots, 2 layers, heads, headDim]. */
  readonly #saved: DeviceTensor<KvType>;
  /** Slots that a decode step ran over without being asked to: their position 0 as it was before is in `saved`. */
  readonly #protected = new Set<SlotIndex>();
  /** One slot of one tensor, to swap through. */
  readonly #spare: DeviceTensor<KvType>;

  /** @param length Positions a slot. Throws `runtime_failed` where the device has not the memory. */
  constructor(runtime: Runtime, layout: KvLayout, slots: number, length: number) {
    const allocate = () =>
      Array.from({ length: layout.layers }, () =>
        runtime.allocate(layout.type, kvShape(layout, slots, length)),
      );
    this.#layout = layout;
    this.#length = length;
    this.#keys = allocate();
    this.#values = allocate();
    const { type, layers, heads, headDim } = layout;
    this.#saved = runtime.allocate(type, [slots, 2 * layers, heads, headDim]);
    this.#spare = runtime.allocate(type, [heads, length, headDim]);
  }

  /** Binds the slots [first, first + rows) as the rows of a run. */
  bind(binding: Binding, first: SlotIndex, rows: number): void {
    const shape = kvShape(this.#layout, rows, this.#length);
    const offset = first * this.#slotElements;
    for (let layer = 0; layer < this.#layout.layers; layer++) {
      const key = (this.#keys[layer] as DeviceTensor).view(shape, offset);
      const value = (this.#values[layer] as DeviceTensor).view(shape, offset);
      binding.bindInput(pastKeyName(layer), key);
      binding.bindInput(pastValueName(layer), value);
      binding.bindOutput(presentKeyName(layer), key);
      binding.bindOutput(presentValueName(layer), value);
    }
  }

  copyPrefix(from: SlotIndex, to: SlotIndex, length: number): void {
    this.repair(from);
    this.#protected.delete(to);
    for (const tensor of this.#tensors()) {
      this.#copy(tensor, this.#heads(from), tensor, this.#heads(to), length);
    }
  }

  swap(a: SlotIndex, b: SlotIndex, length: number): void {
    this.repair(a);
    this.repair(b);
    const spare = { ...this.#heads(a), offset: 0 };
    for (const tensor of this.#tensors()) {
      this.#copy(tensor, this.#heads(a), this.#spare, spare, length);
      this.#copy(tensor, this.#heads(b), tensor, this.#heads(a), length);
      this.#copy(this.#spare, spare, tensor, this.#heads(b), length);
    }
  }

  /**
   * A row that only fills the gap between two others writes at its position 0. What was there is kept, and `repair` puts it back before
   * the slot is next used: one short copy a tensor once a gap, none a step.
   */
  protect(slot: SlotIndex): void {
    if (this.#protected.has(slot)) return;
    for (const [index, tensor] of this.#tensors().entries()) {
      this.#copy(tensor, this.#heads(slot), this.#saved, this.#savedHeads(slot, index), 1);
    }
    this.#protected.add(slot);
  }

  repair(slot: SlotIndex): void {
    if (!this.#protected.delete(slot)) return;
    for (const [index, tensor] of this.#tensors().entries()) {
      this.#copy(this.#saved, this.#savedHeads(slot, index), tensor, this.#heads(slot), 1);
    }
  }

  /** The slot is about to be written from position 0 on. */
  forget(slot: SlotIndex): void {
    this.#protected.delete(slot);
  }

  [Symbol.dispose](): void {
    for (const tensor of [...this.#tensors(), this.#saved, this.#spare]) tensor[Symbol.dispose]();
  }

  #tensors(): readonly DeviceTensor<KvType>[] {
    return [...this.#keys, ...this.#values];
  }

  get #slotElements(): number {
    return this.#layout.heads * this.#length * this.#layout.headDim;
  }

  /** Where a slot's heads start in a tensor of keys or values. */
  #heads(slot: SlotIndex): RunPlaces {
    return { offset: slot * this.#slotElements, stride: this.#length * this.#layout.headDim };
  }

  #savedHeads(slot: SlotIndex, tensor: number): RunPlaces {
    const { layers, heads, headDim } = this.#layout;
    return { offset: (slot * 2 * layers + tensor) * heads * headDim, stride: headDim };
  }

  /** The first positions of each head. */
  #copy(
    source: DeviceTensor<KvType>,
    from: RunPlaces,
    target: DeviceTensor<KvType>,
    to: RunPlaces,
    positions: number,
  ): void {
    const { heads, headDim } = this.#layout;
    target.copyFrom(source, { count: heads, length: positions * headDim, from, to });
  }
}
