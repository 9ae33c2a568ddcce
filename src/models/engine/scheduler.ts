import type { SlotIndex } from '../../core/units.js';
import type { Sequence } from './sequence.js';
import { SlotTable } from './slot-table.js';

/** Positions [from, to) of a prompt to run through the model; none where all of it was copied. */
export interface PrefillChunk {
  readonly sequence: Sequence;
  readonly slot: SlotIndex;
  readonly from: number;
  readonly to: number;
  /** First copy the keys and values of positions [0, from) out of this slot. */
  readonly copyFrom: SlotIndex | null;
}

export type StepPlan =
  | { readonly kind: 'idle' }
  | { readonly kind: 'prefill'; readonly chunks: readonly PrefillChunk[] }
  | {
      readonly kind: 'decode';
      /** By ascending slot. */
      readonly rows: readonly Sequence[];
      /** Slots to exchange before the run, so that the rows lie closer together. */
      readonly swap: { readonly a: SlotIndex; readonly b: SlotIndex } | null;
    };

/**
 * A run of one prompt token takes the attention kernel of a decode step, whose sums differ in the last bits from those of longer runs;
 * runs of two and more agree bit for bit (docs/decisions/0004). So no prompt is cut to leave a single token: what a chunk boundary or the
 * prefix cache does to a request is then nothing at all.
 */
export const SHORTEST_CHUNK = 2;

/** Moving this many tokens of KV costs about as much as one row that a decode step computes for nothing (docs/decisions/0004). */
const TOKENS_MOVED_A_WASTED_ROW = 128;

/**
 * What the engine does next. Decode steps and prefill steps alternate while there is work for both, and a prefill step takes about
 * `prefillChunk` tokens: a stream waits for one chunk at most, and a prompt for one decode step a chunk. Prompts are taken in order of
 * arrival. A lane without credit is left out until its reader catches up.
 */
export class Scheduler {
  readonly slots: SlotTable;
  readonly #prefillChunk: number;
  /** By arrival. */
  readonly #waiting: Sequence[] = [];
  /** By admission. */
  readonly #prefilling: Sequence[] = [];
  readonly #decoding = new Set<Sequence>();
  #lastStep: 'prefill' | 'decode' = 'decode';
  #wastedRows = 0;

  constructor(options: { readonly slots: number; readonly prefillChunk: number }) {
    this.slots = new SlotTable(options.slots);
    this.#prefillChunk = options.prefillChunk;
  }

  get waiting(): readonly Sequence[] {
    return this.#waiting;
  }

  enqueue(sequence: Sequence): void {
    this.#waiting.push(sequence);
  }

  /** @param version Of the model that will run the plan: what another version left in the cache is not used. */
  plan(version: string): StepPlan {
    const rows = [...this.#decoding].filter(({ lane }) => lane.credit > 0);
    const decodeNow = rows.length > 0 && this.#lastStep === 'prefill';
    const chunks = decodeNow ? [] : this.#planPrefill(version);
    if (chunks.length > 0) {
      this.#lastStep = 'prefill';
      return { kind: 'prefill', chunks };
    }
    this.#lastStep = 'decode';
    if (rows.length === 0) return { kind: 'idle' };
    rows.sort((a, b) => slotOf(a) - slotOf(b));
    const swap = this.#planSwap(rows);
    if (swap !== null) rows.sort((a, b) => slotOf(a) - slotOf(b));
    return { kind: 'decode', rows, swap };
  }

  /** The chunk's tokens are in the slot now. */
  prefilled({ sequence, slot, from, to }: PrefillChunk): void {
    this.slots.append(slot, sequence.lane.request.prompt.slice(from, to));
    sequence.prefilled = to;
    if (to < sequence.lane.request.prompt.length) return;
    this.#prefilling.splice(this.#prefilling.indexOf(sequence), 1);
    this.#decoding.add(sequence);
    sequence.state = 'decoding';
  }

  /** Its last token went through the model. */
  decoded(sequence: Sequence): void {
    if (sequence.lastToken !== null) this.slots.append(slotOf(sequence), [sequence.lastToken]);
  }

  /** Takes a sequence out, in whatever state, and frees its slot; the content is `kept` as cache or `lost`. */
  remove(sequence: Sequence, content: 'kept' | 'lost'): void {
    for (const queue of [this.#waiting, this.#prefilling]) {
      const at = queue.indexOf(sequence);
      if (at >= 0) queue.splice(at, 1);
    }
    this.#decoding.delete(sequence);
    sequence.state = 'finished';
    if (sequence.slot === null) return;
    if (content === 'kept') this.slots.release(sequence.slot);
    else this.slots.discard(sequence.slot);
    sequence.slot = null;
  }

  #planPrefill(version: string): PrefillChunk[] {
    let budget = this.#prefillChunk;
    const chunks: PrefillChunk[] = [];
    const add = (sequence: Sequence, copyFrom: SlotIndex | null) => {
      const from = sequence.prefilled;
      const to = endOfChunk(from, budget, sequence.lane.request.prompt.length);
      budget -= to - from;
      chunks.push({ sequence, slot: slotOf(sequence), from, to, copyFrom });
    };
    for (const sequence of this.#prefilling) {
      if (budget <= 0) break;
      add(sequence, null);
    }
    while (budget > 0) {
      const next = this.#waiting[0];
      if (next === undefined) break;
      const copyFrom = this.#admit(next, version);
      if (copyFrom === 'not yet') break;
      add(next, copyFrom);
    }
    return chunks;
  }

  /** Gives the head of the queue a slot; returns where its cached prefix is to be copied from. */
  #admit(sequence: Sequence, version: string): SlotIndex | null | 'not yet' {
    const { lane } = sequence;
    const { prompt, promptLogprobs } = lane.request;
    const leader = lane.sequences[0] as Sequence;
    if (leader.state === 'prefilling') return 'not yet';
    const recomputable = Math.max(0, prompt.length - SHORTEST_CHUNK);
    const mostReused = lane.promptLogits !== null ? prompt.length : promptLogprobs ? 0 : recomputable;
    const placement = this.slots.acquire(prompt, mostReused, version);
    if (placement === null) return 'not yet';
    this.#waiting.shift();
    this.#prefilling.push(sequence);
    sequence.state = 'prefilling';
    sequence.slot = placement.slot;
    sequence.prefilled = placement.reused;
    return placement.copyFrom;
  }

  /**
   * A decode step runs a contiguous range of slots; those between its rows compute for nothing. When that waste has grown to the price of
   * a move, the outermost row goes into the first gap (the ski rental rule: never worse than twice the best that could have been done).
   */
  #planSwap(rows: readonly Sequence[]): { a: SlotIndex; b: SlotIndex } | null {
    const first = rows[0] as Sequence;
    const last = rows[rows.length - 1] as Sequence;
    const wasted = slotOf(last) - slotOf(first) + 1 - rows.length;
    if (wasted === 0) {
      this.#wastedRows = 0;
      return null;
    }
    this.#wastedRows += wasted;
    const gap = firstGap(rows);
    const price = this.slots.held(slotOf(last)) + this.slots.held(gap);
    if (this.#wastedRows * TOKENS_MOVED_A_WASTED_ROW < price) return null;
    this.#wastedRows = 0;
    return this.#swap(gap, slotOf(last));
  }

  #swap(a: SlotIndex, b: SlotIndex): { a: SlotIndex; b: SlotIndex } {
    this.slots.swap(a, b);
    for (const sequence of [...this.#decoding, ...this.#prefilling]) {
      if (sequence.slot === a) sequence.slot = b;
      else if (sequence.slot === b) sequence.slot = a;
    }
    return { a, b };
  }
}

/** A planned sequence has a slot: admission gave it one. */
export function slotOf(sequence: Sequence): SlotIndex {
  if (sequence.slot === null)
    throw new Error(`sequence ${sequence.index} of lane ${sequence.lane.id} has no slot`);
  return sequence.slot;
}

/** At most `budget` positions, one or two more where a single one would be cut off. */
function endOfChunk(from: number, budget: number, end: number): number {
  const to = Math.max(from + budget, from + SHORTEST_CHUNK);
  return end - to < SHORTEST_CHUNK ? end : to;
}

function firstGap(rows: readonly Sequence[]): SlotIndex {
  let expected = slotOf(rows[0] as Sequence) as number;
  for (const row of rows) {
    if (slotOf(row) !== expected) break;
    expected++;
  }
  return expected as SlotIndex;
}
