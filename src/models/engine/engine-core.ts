import { AppError, type SerializedError, serializeError } from '../../core/errors.js';
import { milliseconds, type TokenId } from '../../core/units.js';
import type { EngineOptions, EngineStats, FinishReason, GenerateRequest, TokenEvent } from './engine.js';
import type { ModelRunner } from './model-runner.js';
import { Sampler } from './sampler.js';
import { type PrefillChunk, Scheduler, type StepPlan, slotOf } from './scheduler.js';
import { Lane, type LaneId, type Sequence } from './sequence.js';

/** What happened to a lane since the last report. After an end nothing more comes of it. */
export interface LaneReport {
  readonly lane: LaneId;
  readonly events: TokenEvent[];
  end: null | 'done' | SerializedError;
}

/**
 * One model's requests, step by step: plan, run, sample, commit. It knows no thread and no clock of its own; whoever holds it calls
 * `step` and hands the reports on. Between two steps requests may come, go and be cancelled.
 */
export class EngineCore implements Disposable {
  readonly #runner: ModelRunner;
  readonly #options: EngineOptions;
  readonly #scheduler: Scheduler;
  readonly #sampler: Sampler;
  readonly #now: () => number;
  readonly #lanes = new Map<LaneId, Lane>();
  #reports = new Map<LaneId, LaneReport>();
  #promptTokens = 0;
  #generationTokens = 0;
  #hitTokens = 0;
  #steps = 0;

  constructor(runner: ModelRunner, options: EngineOptions, now: () => number) {
    this.#runner = runner;
    this.#options = options;
    this.#scheduler = new Scheduler(options);
    this.#sampler = new Sampler(runner.vocabularySize);
    this.#now = now;
  }

  get stats(): EngineStats {
    const lanes = [...this.#lanes.values()];
    const waiting = lanes.filter(({ startedAt }) => startedAt === null);
    return {
      requestsRunning: lanes.length - waiting.length,
      requestsWaiting: waiting.length,
      slotsBusy: this.#scheduler.slots.busy,
      slots: this.#options.slots,
      promptTokens: this.#promptTokens,
      generationTokens: this.#generationTokens,
      prefixCacheHitTokens: this.#hitTokens,
      waitingPromptTokens: waiting.reduce((sum, { request }) => sum + request.prompt.length, 0),
      steps: this.#steps,
    };
  }

  /** @param id Chosen by the caller, one a request. */
  add(id: LaneId, request: GenerateRequest): void {
    const lane = new Lane(id, request, this.#options.laneBuffer, this.#now());
    this.#lanes.set(id, lane);
    for (const sequence of lane.sequences) this.#scheduler.enqueue(sequence);
  }

  /** The reader took this many tokens. */
  credit(id: LaneId, tokens: number): void {
    const lane = this.#lanes.get(id);
    if (lane !== undefined) lane.credit += tokens;
  }

  /** Ends one sequence without an event. */
  finish(id: LaneId, index: number): void {
    const lane = this.#lanes.get(id);
    const sequence = lane?.sequences[index];
    if (lane === undefined || sequence === undefined || sequence.state === 'finished') return;
    this.#scheduler.remove(sequence, 'kept');
    this.#endIfDone(lane);
  }

  cancel(id: LaneId): void {
    const lane = this.#lanes.get(id);
    if (lane === undefined) return;
    this.#end(lane, serializeError(new AppError('request_cancelled', 'The request was cancelled.')), 'kept');
  }

  /** Ends every request with this error. */
  failAll(error: AppError): void {
    for (const lane of [...this.#lanes.values()]) this.#end(lane, serializeError(error), 'kept');
  }

  /** Runs the model once, for one decode step or one budget of prompt tokens. False: there is nothing to do until something is added. */
  step(): boolean {
    const plan = this.#scheduler.plan(this.#runner.version);
    if (plan.kind === 'idle') return false;
    this.#steps++;
    if (plan.kind === 'prefill') for (const chunk of plan.chunks) this.#prefill(chunk);
    else this.#decode(plan);
    return true;
  }

  takeReports(): LaneReport[] {
    const reports = [...this.#reports.values()];
    this.#reports.clear();
    return reports;
  }

  [Symbol.dispose](): void {
    this.#runner[Symbol.dispose]();
  }

  #prefill(chunk: PrefillChunk): void {
    const { sequence } = chunk;
    const { lane } = sequence;
    // An earlier chunk of this step may have failed the lane.
    if (sequence.state === 'finished') return;
    this.#guard([lane], () => {
      this.#start(lane, chunk);
      const { request } = lane;
      const ends = chunk.to === request.prompt.length;
      const logits = this.#runChunk(chunk, ends);
      this.#scheduler.prefilled(chunk);
      if (sequence.leads && request.promptLogprobs) this.#scorePrompt(lane, chunk, logits);
      if (!ends) return;
      if (sequence.leads) this.#openLane(lane, logits[logits.length - 1] as Float32Array);
      if (request.maxTokens === 0) this.#finishUnsampled(lane);
      else this.#sample(sequence, lane.promptLogits ?? (logits[logits.length - 1] as Float32Array));
    });
  }

  #start(lane: Lane, chunk: PrefillChunk): void {
    if (lane.startedAt === null) {
      lane.startedAt = this.#now();
      lane.cachedTokens = chunk.from;
    }
    if (chunk.copyFrom !== null) this.#runner.copyPrefix(chunk.copyFrom, chunk.slot, chunk.from);
  }

  #runChunk({ sequence, slot, from, to }: PrefillChunk, ends: boolean): readonly Float32Array[] {
    if (from === to) return [];
    const { request } = sequence.lane;
    const all = sequence.leads && request.promptLogprobs;
    const tokens = request.prompt.slice(from, to);
    return this.#runner.prefill({ slot, tokens, from, logits: all ? 'all' : ends ? 'last' : 'none' });
  }

  /** Logits at position p are of the token at p + 1. */
  #scorePrompt(lane: Lane, { from }: PrefillChunk, logits: readonly Float32Array[]): void {
    const { prompt, logprobs } = lane.request;
    if (from === 0) lane.promptLogprobs.push(null);
    for (const [offset, row] of logits.entries()) {
      const id = prompt[from + offset + 1];
      if (id !== undefined) lane.promptLogprobs.push({ id, ...this.#sampler.score(row, id, logprobs ?? 0) });
    }
  }

  /** The prompt is done: tell so, and keep its logits for the sequences that have no slot yet. */
  #openLane(lane: Lane, logits: Float32Array): void {
    const { request, arrivedAt, cachedTokens } = lane;
    const startedAt = lane.startedAt ?? arrivedAt;
    if (request.sequences > 1) lane.promptLogits = logits.slice();
    this.#promptTokens += request.prompt.length;
    this.#hitTokens += cachedTokens;
    this.#emit(lane, {
      type: 'prompt',
      cachedTokens,
      logprobs: request.promptLogprobs ? lane.promptLogprobs : null,
      queueTime: milliseconds(startedAt - arrivedAt),
      prefillTime: milliseconds(this.#now() - startedAt),
    });
  }

  #decode({ rows, swap }: Extract<StepPlan, { kind: 'decode' }>): void {
    const lanes = [...new Set(rows.map(({ lane }) => lane))];
    const { slots } = this.#scheduler;
    this.#guard(lanes, () => {
      if (swap !== null) {
        this.#runner.swap(swap.a, swap.b, Math.max(slots.held(swap.a), slots.held(swap.b)));
      }
      const logits = this.#runner.decode(
        rows.map((row) => ({
          slot: slotOf(row),
          token: row.lastToken as TokenId,
          position: slots.held(slotOf(row)),
        })),
      );
      for (const row of rows) this.#scheduler.decoded(row);
      for (const [index, row] of rows.entries()) {
        // A lane that failed on one row takes its other rows with it.
        if (row.state === 'finished') continue;
        this.#guard([row.lane], () => this.#sample(row, logits[index] as Float32Array));
      }
    });
  }

  #sample(sequence: Sequence, logits: Float32Array): void {
    const { lane } = sequence;
    const { request } = lane;
    const drawn = this.#sampler.draw(logits, request.sampling, sequence, sequence.rng, request.logprobs);
    if (request.stopIds.has(drawn.id)) {
      this.#finish(sequence, 'stop', drawn.id);
      return;
    }
    sequence.push(drawn.id);
    lane.credit--;
    this.#generationTokens++;
    this.#emit(lane, { type: 'token', sequence: sequence.index, ...drawn });
    if (sequence.generated >= request.maxTokens) this.#finish(sequence, 'length', null);
  }

  #finishUnsampled(lane: Lane): void {
    for (const sequence of lane.sequences) this.#finish(sequence, 'length', null);
  }

  #finish(sequence: Sequence, reason: FinishReason, stopId: TokenId | null): void {
    this.#scheduler.remove(sequence, 'kept');
    this.#emit(sequence.lane, { type: 'finish', sequence: sequence.index, reason, stopId });
    this.#endIfDone(sequence.lane);
  }

  #endIfDone(lane: Lane): void {
    if (lane.unfinished) return;
    this.#report(lane).end = 'done';
    this.#lanes.delete(lane.id);
  }

  #end(lane: Lane, error: SerializedError, content: 'kept' | 'lost'): void {
    if (!this.#lanes.delete(lane.id)) return;
    for (const sequence of lane.sequences) this.#scheduler.remove(sequence, content);
    this.#report(lane).end = error;
  }

  /** A failure ends the lanes that took part, and no other. */
  #guard(lanes: readonly Lane[], work: () => void): void {
    try {
      work();
    } catch (error) {
      for (const lane of lanes) this.#end(lane, serializeError(error), 'lost');
    }
  }

  #emit(lane: Lane, event: TokenEvent): void {
    this.#report(lane).events.push(event);
  }

  #report(lane: Lane): LaneReport {
    const known = this.#reports.get(lane.id);
    if (known !== undefined) return known;
    const report: LaneReport = { lane: lane.id, events: [], end: null };
    this.#reports.set(lane.id, report);
    return report;
  }
}
