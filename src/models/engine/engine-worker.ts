/** Thread entry: opens a language model and runs its engine until told to stop. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { AppError, serializeError } from '../../core/errors.js';
import { DecoderRunner } from './decoder-runner.js';
import { EngineCore } from './engine-core.js';
import type { EngineReady, EngineWorkerData, FromEngine, ToEngine } from './engine-messages.js';
import { type OpenCheckpoint, openCheckpoint } from './open-checkpoint.js';
import type { Opening } from './supervised-worker.js';
import { runSteps, type SteppingModel } from './worker-loop.js';

type Handlers = { readonly [T in ToEngine['type']]: (message: Extract<ToEngine, { type: T }>) => void };

class EngineThread implements SteppingModel<ToEngine> {
  stopping = false;
  readonly #core: EngineCore;
  readonly #handlers: Handlers;

  constructor(core: EngineCore) {
    this.#core = core;
    this.#handlers = {
      generate: ({ lane, request }) => core.add(lane, request),
      finish: ({ lane, sequence }) => core.finish(lane, sequence),
      cancel: ({ lane }) => core.cancel(lane),
      credit: ({ lane, tokens }) => core.credit(lane, tokens),
      stop: () => {
        this.stopping = true;
        core.failAll(new AppError('shutting_down', 'The model is being unloaded.'));
      },
    };
  }

  handle(message: ToEngine): void {
    (this.#handlers[message.type] as (message: ToEngine) => void)(message);
  }

  step(): boolean {
    return this.#core.step();
  }

  report(): FromEngine {
    return { reports: this.#core.takeReports(), stats: this.#core.stats };
  }
}

function open(data: EngineWorkerData) {
  const cudaGraphs = data.runtime.cuda?.graphs === true;
  const checkpoint = openCheckpoint(data.source, data.runtime, data.engine.contextLength, { cudaGraphs });
  try {
    return startOn(checkpoint, data, cudaGraphs);
  } catch (error) {
    checkpoint.runtime[Symbol.dispose]();
    throw error;
  }
}

/** Throws `wrong_model_kind`, and `out_of_memory` where the KV cache does not fit. */
function startOn(checkpoint: OpenCheckpoint, { source, engine }: EngineWorkerData, cudaGraphs: boolean) {
  const { runtime, decoder, contextLength, version } = checkpoint;
  const { head } = decoder.graph;
  if (head.kind !== 'language') {
    throw new AppError('wrong_model_kind', `${source.directory} is a reward model; ask it for scores.`);
  }
  const options = { ...engine, contextLength };
  const stepShapes = cudaGraphs && runtime.provider === 'cuda' ? 'fixed' : 'ranges';
  const runner = new DecoderRunner(checkpoint, head.vocabulary, { ...options, stepShapes }, version);
  const ready: EngineReady = {
    provider: runtime.provider,
    vocabularySize: head.vocabulary,
    contextLength,
  };
  return { runtime, core: new EngineCore(runner, options, () => performance.now()), ready };
}

async function main(port: MessagePort, data: EngineWorkerData): Promise<void> {
  let opened: ReturnType<typeof open>;
  try {
    opened = open(data);
  } catch (error) {
    port.postMessage({ type: 'refused', error: serializeError(error) } satisfies Opening<EngineReady>);
    return;
  }
  const { runtime, core, ready } = opened;
  try {
    port.postMessage({ type: 'ready', ready } satisfies Opening<EngineReady>);
    await runSteps(port, new EngineThread(core));
  } finally {
    core[Symbol.dispose]();
    runtime[Symbol.dispose]();
  }
  // Nothing is listened to any more, so the thread ends.
  port.close();
}

if (parentPort !== null) await main(parentPort, workerData as EngineWorkerData);
