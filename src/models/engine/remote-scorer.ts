import { setMaxListeners } from 'node:events';
import { Worker } from 'node:worker_threads';
import { AppError, deserializeError } from '../../core/errors.js';
import type { TokenId } from '../../core/units.js';
import { Admission } from './admission.js';
import type { HeadOutputs, ScoredPositions, ScoreReport } from './score-core.js';
import type { FromScorer, ScoreOptions, ScoreReady, ScoreWorkerData, ToScorer } from './score-messages.js';
import type { LaneId } from './sequence.js';
import { SupervisedWorker } from './supervised-worker.js';

interface Pending {
  readonly sequences: number;
  readonly tokens: number;
  resolve(outputs: readonly HeadOutputs[]): void;
  reject(error: AppError): void;
}

/** A reward model in a worker thread of its own; sequences of all callers are batched there. */
export class RemoteScorer implements AsyncDisposable {
  readonly ready: ScoreReady;
  readonly #worker: SupervisedWorker<ToScorer, FromScorer, ScoreReady>;
  readonly #admission: Admission;
  readonly #pending = new Map<LaneId, Pending>();
  #nextLane: LaneId = 0;

  private constructor(worker: SupervisedWorker<ToScorer, FromScorer, ScoreReady>, options: ScoreOptions) {
    this.#worker = worker;
    this.ready = worker.ready;
    this.#admission = new Admission(
      { running: 0, waiting: options.maxQueuedRequests, waitingTokens: options.maxQueuedTokens },
      () => performance.now() / 1000,
    );
    worker.listen(
      ({ reports }) => {
        for (const report of reports) this.#settle(report);
      },
      (failure) => {
        for (const lane of [...this.#pending.keys()]) this.#drop(lane, failure);
      },
    );
  }

  /**
   * Opens the checkpoint in a new worker thread.
   * @param name The model's, for messages.
   */
  static async open(name: string, data: ScoreWorkerData): Promise<RemoteScorer> {
    const thread = new Worker(new URL('./score-worker.js', import.meta.url), { workerData: data });
    const worker = await SupervisedWorker.open<ToScorer, FromScorer, ScoreReady>(
      thread,
      `Reward model '${name}'`,
    );
    return new RemoteScorer(worker, data.options);
  }

  get failure(): AppError | null {
    return this.#worker.failure;
  }

  /**
   * The head's outputs at the wanted positions of each sequence, as trained. Throws `queue_full`, `context_length_exceeded`,
   * `request_cancelled` within one batch of the signal's abort.
   */
  async score(
    sequences: readonly (readonly TokenId[])[],
    positions: ScoredPositions,
    signal: AbortSignal,
  ): Promise<readonly HeadOutputs[]> {
    if (this.failure !== null) throw this.failure;
    if (signal.aborted) throw new AppError('request_cancelled', 'The request was cancelled.');
    for (const sequence of sequences) this.#assertFits(sequence.length);
    const tokens = sequences.reduce((sum, { length }) => sum + length, 0);
    this.#admission.enter(sequences.length, tokens);
    const lane = this.#nextLane++;
    const cancel = () => this.#worker.post({ type: 'cancel', lane });
    // One signal may end any number of requests.
    setMaxListeners(0, signal);
    signal.addEventListener('abort', cancel, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        this.#pending.set(lane, { sequences: sequences.length, tokens, resolve, reject });
        this.#worker.post({ type: 'score', lane, request: { sequences, positions } });
      });
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  /** Ends every request with `shutting_down`, frees the model's memory and its thread. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.stop({ type: 'stop' });
  }

  #assertFits(length: number): void {
    const { contextLength } = this.ready;
    if (length === 0) {
      throw new AppError('invalid_value', 'A sequence to score has no tokens.', { param: 'input' });
    }
    if (length <= contextLength) return;
    throw new AppError(
      'context_length_exceeded',
      `This model's context is ${contextLength} tokens, but a sequence to score has ${length}. Shorten it.`,
    );
  }

  #settle({ lane, outcome }: ScoreReport): void {
    if ('error' in outcome) {
      this.#drop(lane, deserializeError(outcome.error));
      return;
    }
    this.#take(lane, 'done')?.resolve(outcome.outputs);
  }

  #drop(lane: LaneId, error: AppError): void {
    this.#take(lane, 'dropped')?.reject(error);
  }

  #take(lane: LaneId, outcome: 'done' | 'dropped'): Pending | undefined {
    const pending = this.#pending.get(lane);
    if (pending === undefined) return undefined;
    this.#pending.delete(lane);
    this.#admission.runTokens(pending.tokens, outcome);
    this.#admission.leave(pending.sequences);
    return pending;
  }
}
