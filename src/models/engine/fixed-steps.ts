import { slotIndex } from '../../core/units.js';
import type { Binding, DeviceTensor } from '../runtime/session.js';
import { decoderInputs, decoderOutputs } from '../transformer/decoder.js';
import { type DecodeParts, type DecodeSteps, SlotInputs } from './decode-steps.js';
import type { DecodeRow } from './model-runner.js';
import { rowsOf, StagedTensor } from './staged-tensor.js';

/**
 * Steps of a few fixed shapes, for CUDA graphs: the slots from 0 to the next power of two over the last row, all of them through the head.
 * A captured graph replays the same kernels on the same addresses, so that
 * - tokens and positions lie in device tensors that are written before each step;
 * - the picked rows are all rows, and the host fetches those that it samples;
 * - total_sequence_length, which the kernels read on the host when the graph is captured, is the slot's whole length. CUDA's
 *   GroupQueryAttention takes the rows' own lengths from seqlens_k on the device, and the total only for the number of pieces that it
 *   splits a row's keys into and to check the rotary tables.
 * A row too many costs little: a step of few rows takes its time for reading the weights.
 */
export class FixedSteps implements DecodeSteps {
  readonly #parts: DecodeParts;
  readonly #inputs: SlotInputs;
  readonly #totalLength: DeviceTensor<'int32'>;
  readonly #picked: StagedTensor<'int64'>;
  readonly #logits: StagedTensor<'float32'>;
  /** By number of slots, which is also the number of the CUDA graph. */
  readonly #bindings = new Map<number, Binding>();

  constructor(parts: DecodeParts) {
    const { runtime, slots, contextLength, vocabularySize } = parts;
    this.#parts = parts;
    this.#inputs = new SlotInputs(parts);
    this.#totalLength = runtime.allocateHost('int32', []);
    this.#totalLength.write(Int32Array.of(contextLength));
    this.#picked = new StagedTensor(runtime, 'int64', [slots]);
    for (let slot = 0; slot < slots; slot++) this.#picked.values[slot] = BigInt(slot);
    this.#picked.send(slots);
    this.#logits = new StagedTensor(runtime, 'float32', [slots, vocabularySize]);
  }

  run(rows: readonly DecodeRow[]): Float32Array[] {
    const last = (rows[rows.length - 1] as DecodeRow).slot;
    const span = Math.min(2 ** Math.ceil(Math.log2(last + 1)), this.#parts.slots);
    this.#inputs.fill(rows, slotIndex(0), span);
    (this.#bindings.get(span) ?? this.#create(span)).run();
    return this.#fetch(rows);
  }

  [Symbol.dispose](): void {
    for (const binding of this.#bindings.values()) binding[Symbol.dispose]();
    for (const part of [this.#inputs, this.#totalLength, this.#picked, this.#logits]) part[Symbol.dispose]();
  }

  #create(span: number): Binding {
    const binding = this.#parts.session.createBinding({ graphId: span });
    this.#bindings.set(span, binding);
    this.#inputs.bind(binding, slotIndex(0), span);
    binding.bindInput(decoderInputs.totalLength, this.#totalLength);
    binding.bindInput(decoderInputs.picked, this.#picked.tensor.view([span]));
    binding.bindOutput(decoderOutputs.language, this.#logits.tensor.view([span, this.#parts.vocabularySize]));
    return binding;
  }

  /** Logits of the rows alone, one copy for slots that follow each other. */
  #fetch(rows: readonly DecodeRow[]): Float32Array[] {
    const { vocabularySize } = this.#parts;
    const logits: Float32Array[] = [];
    for (let at = 0; at < rows.length; ) {
      const { slot } = rows[at] as DecodeRow;
      let count = 1;
      while (rows[at + count]?.slot === slot + count) count++;
      const values = this.#logits.fetch(slot * vocabularySize, count * vocabularySize);
      logits.push(...rowsOf(values, vocabularySize));
      at += count;
    }
    return logits;
  }
}
