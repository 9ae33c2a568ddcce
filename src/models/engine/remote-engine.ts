import { Worker } from 'node:worker_threads';
import { AppError, deserializeError } from '../../core/errors.js';
import { Admission } from './admission.js';
import type { Engine, EngineOptions, EngineStats, GenerateRequest, Generation } from './engine.js';
import type { LaneReport } from './engine-core.js';
import type { EngineReady, EngineWorkerData, FromEngine, ToEngine } from './engine-messages.js';
import { RemoteGeneration } from './remote-generation.js';
import type { LaneId } from './sequence.js';
import { SupervisedWorker } from './supervised-worker.js';

/** An engine in a worker thread of its own, so that arithmetic never holds up the thread that speaks to clients. */
export class RemoteEngine implements Engine {
  readonly options: EngineOptions;
  readonly vocabularySize: number;
  readonly provider: 'cpu' | 'cuda';
  readonly #worker: SupervisedWorker<ToEngine, FromEngine, EngineReady>;
  readonly #admission: Admission;
  readonly #lanes = new Map<LaneId, RemoteGeneration>();
  #nextLane: LaneId = 0;
  #stats: EngineStats;

  private constructor(worker: SupervisedWorker<ToEngine, FromEngine, EngineReady>, options: EngineOptions) {
    this.#worker = worker;
    this.vocabularySize = worker.ready.vocabularySize;
    this.provider = worker.ready.provider;
    this.options = { ...options, contextLength: worker.ready.contextLength };
    this.#stats = idle(options.slots);
    this.#admission = new Admission(
      {
        running: options.slots,
        waiting: options.maxQueuedRequests,
        waitingTokens: options.maxQueuedPromptTokens,
      },
      () => performance.now() / 1000,
    );
    worker.listen(
      (message) => this.#take(message),
      (failure) => this.#fail(failure),
    );
  }

  /**
   * Opens the checkpoint in a new worker thread.
   * @param name The model's, for messages.
   */
  static async open(name: string, data: EngineWorkerData): Promise<RemoteEngine> {
    const thread = new Worker(new URL('./engine-worker.js', import.meta.url), { workerData: data });
    return RemoteEngine.over(thread, name, data.engine);
  }

  /** An engine over a thread that runs engine-worker. */
  static async over(thread: Worker, name: string, options: EngineOptions): Promise<RemoteEngine> {
    const worker = await SupervisedWorker.open<ToEngine, FromEngine, EngineReady>(
      thread,
      `The engine of model '${name}'`,
    );
    return new RemoteEngine(worker, options);
  }

  get failure(): AppError | null {
    return this.#worker.failure;
  }

  generate(request: GenerateRequest, signal: AbortSignal): Generation {
    if (this.failure !== null) throw this.failure;
    if (signal.aborted) throw new AppError('request_cancelled', 'The request was cancelled.');
    this.#assertFits(request);
    this.#admission.enter(request.sequences, request.prompt.length);
    const lane = this.#nextLane++;
    const generation = new RemoteGeneration(request, this.options.laneBuffer, signal, {
      credit: (tokens) => this.#worker.post({ type: 'credit', lane, tokens }),
      finish: (sequence) => this.#worker.post({ type: 'finish', lane, sequence }),
      cancel: () => this.#worker.post({ type: 'cancel', lane }),
    });
    this.#lanes.set(lane, generation);
    this.#worker.post({ type: 'generate', lane, request });
    return generation;
  }

  /** As of the newest step. */
  stats(): EngineStats {
    return this.#stats;
  }

  /** Ends every request with `shutting_down`, frees the model's memory and its thread. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.stop({ type: 'stop' });
  }

  #assertFits({ prompt, maxTokens }: GenerateRequest): void {
    const { contextLength } = this.options;
    if (prompt.length === 0) {
      throw new AppError('invalid_value', 'The prompt has no tokens; give at least one.', {
        param: 'prompt',
      });
    }
    if (prompt.length + maxTokens <= contextLength) return;
    throw new AppError(
      'context_length_exceeded',
      `This model's context is ${contextLength} tokens, but ${prompt.length + maxTokens} were asked for: ` +
        `${prompt.length} of the prompt and ${maxTokens} to generate. Shorten the prompt or lower max_tokens.`,
    );
  }

  #take({ reports, stats }: FromEngine): void {
    this.#stats = stats;
    for (const report of reports) this.#deliver(report);
  }

  #deliver({ lane, events, end }: LaneReport): void {
    const generation = this.#lanes.get(lane);
    if (generation === undefined) return;
    const { request } = generation;
    for (const event of events) {
      if (event.type === 'prompt') this.#admission.runTokens(request.prompt.length, 'done');
      else if (event.type === 'finish') this.#admission.leave(1);
      generation.push(event);
    }
    if (end === null) return;
    this.#lanes.delete(lane);
    this.#leave(generation);
    generation.end(end === 'done' ? null : deserializeError(end));
  }

  /** What a lane that ended early still holds of the admission's counts. */
  #leave(generation: RemoteGeneration): void {
    const { request } = generation;
    if (!generation.prefilled) this.#admission.runTokens(request.prompt.length, 'dropped');
    this.#admission.leave(request.sequences - generation.finished);
  }

  #fail(failure: AppError): void {
    this.#stats = idle(this.options.slots);
    for (const generation of this.#lanes.values()) {
      this.#leave(generation);
      generation.end(failure);
    }
    this.#lanes.clear();
  }
}

const idle = (slots: number): EngineStats => ({
  requestsRunning: 0,
  requestsWaiting: 0,
  slotsBusy: 0,
  slots,
  promptTokens: 0,
  generationTokens: 0,
  prefixCacheHitTokens: 0,
  waitingPromptTokens: 0,
  steps: 0,
});
