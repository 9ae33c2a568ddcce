import type { SlotIndex } from '../../core/units.js';
import type { Binding, DeviceTensor, Runtime } from '../runtime/session.js';
import { decoderInputs, decoderOutputs } from '../transformer/decoder.js';
import type { LoadedDecoder } from '../transformer/load-decoder.js';
import { type DecodeParts, type DecodeSteps, RangeSteps } from './decode-steps.js';
import type { EngineOptions } from './engine.js';
import { FixedSteps } from './fixed-steps.js';
import { KvCache } from './kv-cache.js';
import type { DecodeRow, ModelRunner, PrefillRun } from './model-runner.js';
import type { OpenCheckpoint } from './open-checkpoint.js';
import { SHORTEST_CHUNK } from './scheduler.js';
import { rowsOf, StagedTensor } from './staged-tensor.js';

/** Shapes of decode steps: just the slots in use, or few shapes for CUDA graphs. */
export type StepShapes = 'ranges' | 'fixed';

const stepsOf = {
  ranges: RangeSteps,
  fixed: FixedSteps,
} as const satisfies Record<StepShapes, new (parts: DecodeParts) => DecodeSteps>;

export interface DecoderRunnerOptions
  extends Pick<EngineOptions, 'slots' | 'contextLength' | 'prefillChunk'> {
  readonly stepShapes: StepShapes;
}

/**
 * Runs a decoder graph over the slots of a KV cache. A prefill binds one slot, a decode step a range of slots. All that runs read and
 * write lies on the device: the host sends token ids and positions and fetches the logits of the rows that it samples, by one copy. (A
 * host tensor bound as output would cost the same copy, and a replayed CUDA graph would not make it.)
 */
export class DecoderRunner implements ModelRunner {
  readonly vocabularySize: number;
  readonly version: string;
  readonly #runtime: Runtime;
  readonly #decoder: LoadedDecoder;
  readonly #cache: KvCache;
  readonly #tokens: StagedTensor<'int64'>;
  readonly #lastPosition: StagedTensor<'int32'>;
  readonly #totalLength: DeviceTensor<'int32'>;
  readonly #picked: StagedTensor<'int64'>;
  #logits: StagedTensor<'float32'>;
  readonly #prefills = new Map<SlotIndex, Binding>();
  readonly #steps: DecodeSteps;

  /**
   * Takes the decoder over: disposing of the runner closes its session.
   * @param version Names the decoder's weights.
   */
  constructor(
    { runtime, decoder }: Pick<OpenCheckpoint, 'runtime' | 'decoder'>,
    vocabularySize: number,
    { slots, contextLength, prefillChunk, stepShapes }: DecoderRunnerOptions,
    version: string,
  ) {
    const longest = prefillChunk + SHORTEST_CHUNK;
    this.vocabularySize = vocabularySize;
    this.version = version;
    this.#runtime = runtime;
    this.#decoder = decoder;
    this.#cache = new KvCache(runtime, decoder.graph.kv, slots, contextLength);
    this.#tokens = new StagedTensor(runtime, 'int64', [longest]);
    this.#lastPosition = new StagedTensor(runtime, 'int32', [1]);
    this.#totalLength = runtime.allocateHost('int32', []);
    this.#picked = new StagedTensor(runtime, 'int64', [longest]);
    this.#logits = new StagedTensor(runtime, 'float32', [1, vocabularySize]);
    const { session } = decoder;
    const parts = { runtime, session, cache: this.#cache, slots, contextLength, vocabularySize };
    this.#steps = new stepsOf[stepShapes](parts);
  }

  prefill({ slot, tokens, from, logits }: PrefillRun): Float32Array[] {
    if (from > 0) this.#cache.repair(slot);
    else this.#cache.forget(slot);
    const time = tokens.length;
    const rows = logits === 'all' ? time : 1;
    const first = logits === 'all' ? 0 : time - 1;
    for (const [at, token] of tokens.entries()) this.#tokens.values[at] = BigInt(token);
    for (let row = 0; row < rows; row++) this.#picked.values[row] = BigInt(first + row);
    this.#lastPosition.values[0] = from + time - 1;
    this.#totalLength.write(Int32Array.of(from + time));
    this.#tokens.send(time);
    this.#picked.send(rows);
    this.#lastPosition.send(1);
    this.#reserveLogits(rows);
    const binding = this.#prefillBinding(slot);
    binding.bindInput(decoderInputs.tokens, this.#tokens.tensor.view([1, time]));
    binding.bindInput(decoderInputs.picked, this.#picked.tensor.view([rows]));
    binding.bindOutput(decoderOutputs.language, this.#logits.tensor.view([rows, this.vocabularySize]));
    binding.run();
    if (logits === 'none') return [];
    return rowsOf(this.#logits.fetch(0, rows * this.vocabularySize), this.vocabularySize);
  }

  decode(rows: readonly DecodeRow[]): Float32Array[] {
    return this.#steps.run(rows);
  }

  copyPrefix(from: SlotIndex, to: SlotIndex, length: number): void {
    this.#cache.copyPrefix(from, to, length);
  }

  swap(a: SlotIndex, b: SlotIndex, length: number): void {
    this.#cache.swap(a, b, length);
  }

  [Symbol.dispose](): void {
    for (const binding of this.#prefills.values()) binding[Symbol.dispose]();
    this.#steps[Symbol.dispose]();
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
    binding.bindInput(decoderInputs.lastPosition, this.#lastPosition.tensor);
    binding.bindInput(decoderInputs.totalLength, this.#totalLength);
    return binding;
  }

  /** Logits of whole chunks (echo) take more than one row: the buffer grows when first asked to. Each prefill binds it anew. */
  #reserveLogits(rows: number): void {
    if (rows * this.vocabularySize <= this.#logits.values.length) return;
    this.#logits[Symbol.dispose]();
    this.#logits = new StagedTensor(this.#runtime, 'float32', [rows, this.vocabularySize]);
  }
}
