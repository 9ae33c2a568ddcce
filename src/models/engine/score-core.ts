import { AppError, type SerializedError, serializeError } from '../../core/errors.js';
import type { TokenId } from '../../core/units.js';
import type { LaneId } from './sequence.js';

/** Sequences to score. Everything is validated by the caller. */
export interface ScoreRequest {
  readonly sequences: readonly (readonly TokenId[])[];
  readonly positions: ScoredPositions;
}

/** The head's outputs wanted of a sequence. */
export type ScoredPositions = 'last' | 'all';

/** The head's output at the wanted positions of one sequence, as trained. */
export type HeadOutputs = readonly number[];

/** What an engine needs of a reward model. Blocks until the result is there. */
export interface ScoreRunner extends Disposable {
  /** Runs all sequences at once, padded to the longest. */
  run(batch: readonly ScoreRow[]): HeadOutputs[];
}

export interface ScoreRow {
  readonly tokens: readonly TokenId[];
  readonly positions: ScoredPositions;
}

export interface ScoreReport {
  readonly lane: LaneId;
  readonly outcome: { readonly outputs: readonly HeadOutputs[] } | { readonly error: SerializedError };
}

interface Lane {
  readonly id: LaneId;
  readonly outputs: HeadOutputs[];
  missing: number;
}

interface Waiting extends ScoreRow {
  readonly lane: Lane;
  readonly index: number;
}

/** Share of a batch's positions that may be padding. */
const MOST_PADDING = 0.25;

/**
 * One reward model's requests, a batch a step. A batch is the sequence that has waited longest and others of about its length, whoever
 * asked for them, so that none starves and little is padded.
 */
export class ScoreCore implements Disposable {
  readonly #runner: ScoreRunner;
  readonly #batchTokens: number;
  /** By arrival. */
  #waiting: Waiting[] = [];
  readonly #lanes = new Map<LaneId, Lane>();
  #reports: ScoreReport[] = [];

  /** @param batchTokens Positions a batch, padding included; a longer sequence is run alone. */
  constructor(runner: ScoreRunner, batchTokens: number) {
    this.#runner = runner;
    this.#batchTokens = batchTokens;
  }

  add(id: LaneId, { sequences, positions }: ScoreRequest): void {
    const lane: Lane = { id, outputs: new Array(sequences.length), missing: sequences.length };
    this.#lanes.set(id, lane);
    for (const [index, tokens] of sequences.entries()) this.#waiting.push({ lane, index, tokens, positions });
    if (lane.missing === 0) this.#end(lane, { outputs: [] });
  }

  cancel(id: LaneId): void {
    const lane = this.#lanes.get(id);
    if (lane !== undefined) this.#fail(lane, new AppError('request_cancelled', 'The request was cancelled.'));
  }

  failAll(error: AppError): void {
    for (const lane of [...this.#lanes.values()]) this.#fail(lane, error);
  }

  /** False: nothing waits. */
  step(): boolean {
    const batch = this.#takeBatch();
    if (batch.length === 0) return false;
    try {
      const outputs = this.#runner.run(batch);
      for (const [row, { lane, index }] of batch.entries()) {
        lane.outputs[index] = outputs[row] as HeadOutputs;
        lane.missing--;
        if (lane.missing === 0) this.#end(lane, { outputs: lane.outputs });
      }
    } catch (error) {
      for (const { lane } of batch) this.#fail(lane, error);
    }
    return true;
  }

  takeReports(): ScoreReport[] {
    const reports = this.#reports;
    this.#reports = [];
    return reports;
  }

  [Symbol.dispose](): void {
    this.#runner[Symbol.dispose]();
  }

  #takeBatch(): Waiting[] {
    const oldest = this.#waiting[0];
    if (oldest === undefined) return [];
    const distance = ({ tokens }: Waiting) => Math.abs(tokens.length - oldest.tokens.length);
    // A stable sort: of equal distances the one that came first.
    const candidates = this.#waiting.slice(1).sort((a, b) => distance(a) - distance(b));
    const batch = [oldest];
    let longest = oldest.tokens.length;
    let sum = longest;
    for (const candidate of candidates) {
      const width = Math.max(longest, candidate.tokens.length);
      const positions = width * (batch.length + 1);
      const used = sum + candidate.tokens.length;
      if (positions > this.#batchTokens || positions - used > MOST_PADDING * positions) continue;
      batch.push(candidate);
      longest = width;
      sum = used;
    }
    const taken = new Set(batch);
    this.#waiting = this.#waiting.filter((each) => !taken.has(each));
    return batch;
  }

  #fail(lane: Lane, error: unknown): void {
    this.#waiting = this.#waiting.filter((each) => each.lane !== lane);
    this.#end(lane, { error: serializeError(error) });
  }

  #end(lane: Lane, outcome: ScoreReport['outcome']): void {
    if (this.#lanes.delete(lane.id)) this.#reports.push({ lane: lane.id, outcome });
  }
}
