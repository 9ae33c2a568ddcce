import { type SlotIndex, slotIndex } from '../../core/units.js';
import type { Binding, DeviceTensor, Runtime, Session } from '../runtime/session.js';
import { decoderInputs, decoderOutputs } from '../transformer/decoder.js';
import type { KvCache } from './kv-cache.js';
import type { DecodeRow } from './model-runner.js';
import { rowsOf, StagedTensor } from './staged-tensor.js';

/** One token in each of some slots, as runs of the graph. */
export interface DecodeSteps extends Disposable {
  /** @param rows By ascending slot. Logits float32 [vocabulary] a row, in order; valid until the next step. */
  run(rows: readonly DecodeRow[]): Float32Array[];
}

/** What decode steps run on. The tensors that a step makes are its own; these are not. */
export interface DecodeParts {
  readonly runtime: Runtime;
  readonly session: Session;
  readonly cache: KvCache;
  readonly slots: number;
  /** Positions a slot. */
  readonly contextLength: number;
  readonly vocabularySize: number;
}

/** Tokens and positions of a range of slots. */
export class SlotInputs implements Disposable {
  readonly #cache: KvCache;
  readonly #tokens: StagedTensor<'int64'>;
  readonly #lastPosition: StagedTensor<'int32'>;

  constructor({ runtime, cache, slots }: DecodeParts) {
    this.#cache = cache;
    this.#tokens = new StagedTensor(runtime, 'int64', [slots]);
    this.#lastPosition = new StagedTensor(runtime, 'int32', [slots]);
  }

  /** A slot of the range that has no row computes for nothing: token 0 at position 0, which the cache keeps aside. */
  fill(rows: readonly DecodeRow[], first: SlotIndex, span: number): void {
    const tokens = this.#tokens.values.fill(0n, 0, span);
    const lastPosition = this.#lastPosition.values.fill(0, 0, span);
    const active = new Set<SlotIndex>();
    for (const { slot, token, position } of rows) {
      active.add(slot);
      tokens[slot - first] = BigInt(token);
      lastPosition[slot - first] = position;
    }
    for (let at = first as number; at < first + span; at++) {
      const slot = slotIndex(at);
      if (active.has(slot)) this.#cache.repair(slot);
      else this.#cache.protect(slot);
    }
    this.#tokens.send(span);
    this.#lastPosition.send(span);
  }

  bind(binding: Binding, first: SlotIndex, span: number): void {
    this.#cache.bind(binding, first, span);
    binding.bindInput(decoderInputs.tokens, this.#tokens.tensor.view([span, 1]));
    binding.bindInput(decoderInputs.lastPosition, this.#lastPosition.tensor.view([span]));
  }

  [Symbol.dispose](): void {
    this.#tokens[Symbol.dispose]();
    this.#lastPosition[Symbol.dispose]();
  }
}

/** One range of slots; the rows picked out of it are bound again only when their number changes. */
interface RangeBinding {
  readonly binding: Binding;
  rows: number;
}

/**
 * Steps over the slots from the first row to the last; the picked rows alone go through the head. Bindings are made once a range and kept,
 * so that a step crosses into native code once, for the run.
 */
export class RangeSteps implements DecodeSteps {
  readonly #parts: DecodeParts;
  readonly #inputs: SlotInputs;
  readonly #totalLength: DeviceTensor<'int32'>;
  readonly #picked: StagedTensor<'int64'>;
  readonly #logits: StagedTensor<'float32'>;
  readonly #bindings = new Map<number, RangeBinding>();

  constructor(parts: DecodeParts) {
    const { runtime, slots, vocabularySize } = parts;
    this.#parts = parts;
    this.#inputs = new SlotInputs(parts);
    this.#totalLength = runtime.allocateHost('int32', []);
    this.#picked = new StagedTensor(runtime, 'int64', [slots]);
    this.#logits = new StagedTensor(runtime, 'float32', [slots, vocabularySize]);
  }

  run(rows: readonly DecodeRow[]): Float32Array[] {
    const { vocabularySize } = this.#parts;
    const first = (rows[0] as DecodeRow).slot;
    const span = (rows[rows.length - 1] as DecodeRow).slot - first + 1;
    this.#inputs.fill(rows, first, span);
    const picked = this.#picked.values;
    let longest = 0;
    for (const [row, { slot, position }] of rows.entries()) {
      picked[row] = BigInt(slot - first);
      longest = Math.max(longest, position + 1);
    }
    this.#picked.send(rows.length);
    this.#totalLength.write(Int32Array.of(longest));
    this.#binding(first, span, rows.length).run();
    return rowsOf(this.#logits.fetch(0, rows.length * vocabularySize), vocabularySize);
  }

  [Symbol.dispose](): void {
    for (const { binding } of this.#bindings.values()) binding[Symbol.dispose]();
    for (const part of [this.#inputs, this.#totalLength, this.#picked, this.#logits]) part[Symbol.dispose]();
  }

  #binding(first: SlotIndex, span: number, rows: number): Binding {
    const { slots, vocabularySize } = this.#parts;
    const key = first * (slots + 1) + span;
    const known = this.#bindings.get(key) ?? this.#create(key, first, span);
    if (known.rows !== rows) {
      known.rows = rows;
      known.binding.bindInput(decoderInputs.picked, this.#picked.tensor.view([rows]));
      known.binding.bindOutput(decoderOutputs.language, this.#logits.tensor.view([rows, vocabularySize]));
    }
    return known.binding;
  }

  #create(key: number, first: SlotIndex, span: number): RangeBinding {
    const binding = this.#parts.session.createBinding();
    const created = { binding, rows: 0 };
    this.#bindings.set(key, created);
    this.#inputs.bind(binding, first, span);
    binding.bindInput(decoderInputs.totalLength, this.#totalLength);
    return created;
  }
}
