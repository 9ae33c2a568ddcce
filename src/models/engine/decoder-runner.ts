import { type SlotIndex, slotIndex } from '../../core/units.js';
import type { Binding, DeviceTensor, Runtime } from '../runtime/session.js';
import { decoderInputs, decoderOutputs } from '../transformer/decoder.js';
import type { LoadedDecoder } from '../transformer/load-decoder.js';
import type { EngineOptions } from './engine.js';
import { KvCache } from './kv-cache.js';
import type { DecodeRow, ModelRunner, PrefillRun } from './model-runner.js';
import type { OpenCheckpoint } from './open-checkpoint.js';
import { SHORTEST_CHUNK } from './scheduler.js';

/** One range of slots; the rows picked out of it are bound again only when their number changes. */
interface DecodeBinding {
  readonly binding: Binding;
  rows: number;
}

/**
 * Runs a decoder graph over the slots of a KV cache. A prefill binds one slot; a decode step binds the range of slots from its first to
 * its last row. Bindings are made once a range and kept, so that a step crosses into native code once, for the run.
 */
export class DecoderRunner implements ModelRunner {
  readonly vocabularySize: number;
  readonly version: string;
  readonly #runtime: Runtime;
  readonly #decoder: LoadedDecoder;
  readonly #cache: KvCache;
  readonly #tokens: DeviceTensor<'int64'>;
  readonly #lastPosition: DeviceTensor<'int32'>;
  readonly #totalLength: DeviceTensor<'int32'>;
  readonly #picked: DeviceTensor<'int64'>;
  #logits: DeviceTensor<'float32'>;
  readonly #prefills = new Map<SlotIndex, Binding>();
  readonly #decodes = new Map<number, DecodeBinding>();
  readonly #slots: number;

  /**
   * Takes the decoder over: disposing of the runner closes its session.
   * @param version Names the decoder's weights.
   */
  constructor(
    { runtime, decoder }: Pick<OpenCheckpoint, 'runtime' | 'decoder'>,
    vocabularySize: number,
    options: Pick<EngineOptions, 'slots' | 'contextLength' | 'prefillChunk'>,
    version: string,
  ) {
    const most = Math.max(options.slots, options.prefillChunk + SHORTEST_CHUNK);
    this.vocabularySize = vocabularySize;
    this.version = version;
    this.#slots = options.slots;
    this.#runtime = runtime;
    this.#decoder = decoder;
    this.#cache = new KvCache(runtime, decoder.graph.kv, options.slots, options.contextLength);
    this.#tokens = runtime.allocateHost('int64', [most]);
    this.#lastPosition = runtime.allocateHost('int32', [options.slots]);
    this.#totalLength = runtime.allocateHost('int32', []);
    this.#picked = runtime.allocateHost('int64', [most]);
    this.#logits = runtime.allocateHost('float32', [options.slots, vocabularySize]);
  }

  prefill({ slot, tokens, from, logits }: PrefillRun): Float32Array[] {
    if (from > 0) this.#cache.repair(slot);
    else this.#cache.forget(slot);
    const time = tokens.length;
    const rows = logits === 'all' ? time : 1;
    const first = logits === 'all' ? 0 : time - 1;
    for (const [at, token] of tokens.entries()) hostOf(this.#tokens)[at] = BigInt(token);
    for (let row = 0; row < rows; row++) hostOf(this.#picked)[row] = BigInt(first + row);
    hostOf(this.#lastPosition)[0] = from + time - 1;
    hostOf(this.#totalLength)[0] = from + time;
    this.#reserveLogits(rows);
    const binding = this.#prefillBinding(slot);
    binding.bindInput(decoderInputs.tokens, this.#tokens.view([1, time]));
    binding.bindInput(decoderInputs.picked, this.#picked.view([rows]));
    binding.bindOutput(decoderOutputs.language, this.#logits.view([rows, this.vocabularySize]));
    binding.run();
    return logits === 'none' ? [] : this.#rows(Array.from({ length: rows }, (_, row) => row));
  }

  decode(rows: readonly DecodeRow[]): Float32Array[] {
    const first = (rows[0] as DecodeRow).slot;
    const span = (rows[rows.length - 1] as DecodeRow).slot - first + 1;
    const tokens = hostOf(this.#tokens);
    const lastPosition = hostOf(this.#lastPosition);
    // A slot between two rows computes for nothing: token 0 at position 0.
    tokens.fill(0n, 0, span);
    lastPosition.fill(0, 0, span);
    const active = new Set<SlotIndex>();
    let longest = 0;
    for (const { slot, token, position } of rows) {
      active.add(slot);
      tokens[slot - first] = BigInt(token);
      lastPosition[slot - first] = position;
      longest = Math.max(longest, position + 1);
    }
    for (let slot = first as number; slot < first + span; slot++) {
      if (active.has(slotIndex(slot))) this.#cache.repair(slotIndex(slot));
      else this.#cache.protect(slotIndex(slot));
    }
    for (const [row, { slot }] of rows.entries()) hostOf(this.#picked)[row] = BigInt(slot - first);
    hostOf(this.#totalLength)[0] = longest;
    this.#decodeBinding(first, span, rows.length).run();
    return this.#rows(rows.keys());
  }

  copyPrefix(from: SlotIndex, to: SlotIndex, length: number): void {
    this.#cache.copyPrefix(from, to, length);
  }

  swap(a: SlotIndex, b: SlotIndex, length: number): void {
    this.#cache.swap(a, b, length);
  }

  [Symbol.dispose](): void {
    for (const binding of this.#prefills.values()) binding[Symbol.dispose]();
    for (const { binding } of this.#decodes.values()) binding[Symbol.dispose]();
    this.#cache[Symbol.dispose]();
    for (const tensor of [this.#tokens, this.#lastPosition, this.#totalLength, this.#picked, this.#logits]) {
      tensor[Symbol.dispose]();
    }
    this.#decoder[Symbol.dispose]();
  }

  #prefillBinding(slot: SlotIndex): Binding {
    const known = this.#prefills.get(slot);
    if (known !== undefined) return known;
    const binding = this.#decoder.session.createBinding();
    this.#prefills.set(slot, binding);
    this.#cache.bind(binding, slot, 1);
    binding.bindInput(decoderInputs.lastPosition, this.#lastPosition.view([1]));
    binding.bindInput(decoderInputs.totalLength, this.#totalLength);
    return binding;
  }

  #decodeBinding(first: SlotIndex, span: number, rows: number): Binding {
    const key = first * (this.#slots + 1) + span;
    const known = this.#decodes.get(key) ?? this.#createDecodeBinding(key, first, span);
    if (known.rows !== rows) {
      known.rows = rows;
      known.binding.bindInput(decoderInputs.picked, this.#picked.view([rows]));
      known.binding.bindOutput(decoderOutputs.language, this.#logits.view([rows, this.vocabularySize]));
    }
    return known.binding;
  }

  #createDecodeBinding(key: number, first: SlotIndex, span: number): DecodeBinding {
    const binding = this.#decoder.session.createBinding();
    const created = { binding, rows: 0 };
    this.#decodes.set(key, created);
    this.#cache.bind(binding, first, span);
    binding.bindInput(decoderInputs.tokens, this.#tokens.view([span, 1]));
    binding.bindInput(decoderInputs.lastPosition, this.#lastPosition.view([span]));
    binding.bindInput(decoderInputs.totalLength, this.#totalLength);
    return created;
  }

  /** Logits of whole chunks (echo) take more rows than a step does: the buffer grows when first asked to. */
  #reserveLogits(rows: number): void {
    if (rows * this.vocabularySize <= hostOf(this.#logits).length) return;
    for (const { binding } of this.#decodes.values()) binding[Symbol.dispose]();
    this.#decodes.clear();
    this.#logits[Symbol.dispose]();
    this.#logits = this.#runtime.allocateHost('float32', [rows, this.vocabularySize]);
  }

  #rows(indices: Iterable<number>): Float32Array[] {
    const all = hostOf(this.#logits);
    return Array.from(indices, (row) =>
      all.subarray(row * this.vocabularySize, (row + 1) * this.vocabularySize),
    );
  }
}

/** Host memory of a tensor that was allocated there. */
function hostOf<A>(tensor: { readonly host: A | null }): A {
  if (tensor.host === null) throw new Error('a host tensor has no host memory');
  return tensor.host;
}
