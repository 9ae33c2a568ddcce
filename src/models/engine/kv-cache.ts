import type { SlotIndex } from '../../core/units.js';
import type { Binding, DeviceTensor, Runtime } from '../runtime/session.js';
import {
  type KvLayout,
  kvShape,
  pastKeyName,
  pastValueName,
  presentKeyName,
  presentValueName,
} from '../transformer/decoder.js';

type KvType = KvLayout['type'];
type KvArray = Float32Array | Uint16Array;

/**
 * Keys and values of every slot: two tensors a layer, each [slots, heads, length, headDim], bound as past and present at once. Copies go
 * head by head, since a prefix is contiguous within a head only.
 */
export class KvCache implements Disposable {
  readonly #layout: KvLayout;
  readonly #length: number;
  readonly #keys: readonly DeviceTensor<KvType>[];
  readonly #values: readonly DeviceTensor<KvType>[];
  /** Position 0 of slots that a decode step ran over without being asked to, as it was before. */
  readonly #saved = new Map<SlotIndex, KvArray>();

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
    const piece = this.#buffer(length * this.#layout.headDim);
    this.#eachHead((tensor, head) => {
      read(tensor, this.#offset(from, head), piece);
      write(tensor, this.#offset(to, head), piece);
    });
    this.#saved.delete(to);
  }

  swap(a: SlotIndex, b: SlotIndex, length: number): void {
    this.repair(a);
    this.repair(b);
    const left = this.#buffer(length * this.#layout.headDim);
    const right = this.#buffer(length * this.#layout.headDim);
    this.#eachHead((tensor, head) => {
      read(tensor, this.#offset(a, head), left);
      read(tensor, this.#offset(b, head), right);
      write(tensor, this.#offset(a, head), right);
      write(tensor, this.#offset(b, head), left);
    });
  }

  /**
   * A row that only fills the gap between two others writes at its position 0. What was there is kept, and `repair` puts it back before
   * the slot is next used: 2 x layers x heads short copies once a gap, none a step.
   */
  protect(slot: SlotIndex): void {
    if (this.#saved.has(slot)) return;
    const { headDim, heads, layers } = this.#layout;
    const saved = this.#buffer(2 * layers * heads * headDim);
    let at = 0;
    this.#eachHead((tensor, head) => {
      read(tensor, this.#offset(slot, head), saved.subarray(at, at + headDim));
      at += headDim;
    });
    this.#saved.set(slot, saved);
  }

  repair(slot: SlotIndex): void {
    const saved = this.#saved.get(slot);
    if (saved === undefined) return;
    const { headDim } = this.#layout;
    let at = 0;
    this.#eachHead((tensor, head) => {
      write(tensor, this.#offset(slot, head), saved.subarray(at, at + headDim));
      at += headDim;
    });
    this.#saved.delete(slot);
  }

  /** The slot is about to be written from position 0 on. */
  forget(slot: SlotIndex): void {
    this.#saved.delete(slot);
  }

  [Symbol.dispose](): void {
    for (const tensor of [...this.#keys, ...this.#values]) tensor[Symbol.dispose]();
  }

  get #slotElements(): number {
    return this.#layout.heads * this.#length * this.#layout.headDim;
  }

  #offset(slot: SlotIndex, head: number): number {
    return slot * this.#slotElements + head * this.#length * this.#layout.headDim;
  }

  #buffer(elements: number): KvArray {
    return this.#layout.type === 'float32' ? new Float32Array(elements) : new Uint16Array(elements);
  }

  #eachHead(visit: (tensor: DeviceTensor<KvType>, head: number) => void): void {
    for (const tensor of [...this.#keys, ...this.#values]) {
      for (let head = 0; head < this.#layout.heads; head++) visit(tensor, head);
    }
  }
}

function read(tensor: DeviceTensor<KvType>, offset: number, into: KvArray): void {
  const { host } = tensor;
  if (host === null) tensor.view([into.length], offset).read(into);
  else into.set(host.subarray(offset, offset + into.length));
}

function write(tensor: DeviceTensor<KvType>, offset: number, data: KvArray): void {
  const { host } = tensor;
  if (host === null) tensor.view([data.length], offset).write(data);
  else host.set(data, offset);
}
