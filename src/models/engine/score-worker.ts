/** Thread entry: opens a reward model and scores until told to stop. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { AppError, serializeError } from '../../core/errors.js';
import type { Provider } from '../runtime/session.js';
import { type OpenCheckpoint, openCheckpoint } from './open-checkpoint.js';
import { RewardRunner } from './reward-runner.js';
import { ScoreCore } from './score-core.js';
import type { FromScorer, ScoreReady, ScoreWorkerData, ToScorer } from './score-messages.js';
import type { Opening } from './supervised-worker.js';
import { runSteps, type SteppingModel } from './worker-loop.js';

/** Positions a batch: where products stop getting cheaper a token. More only makes a cancel wait longer. */
const batchTokens: Readonly<Record<Provider, number>> = { cpu: 512, cuda: 8192 };

type Handlers = { readonly [T in ToScorer['type']]: (message: Extract<ToScorer, { type: T }>) => void };

class ScoreThread implements SteppingModel<ToScorer> {
  stopping = false;
  readonly #core: ScoreCore;
  readonly #handlers: Handlers;

  constructor(core: ScoreCore) {
    this.#core = core;
    this.#handlers = {
      score: ({ lane, request }) => core.add(lane, request),
      cancel: ({ lane }) => core.cancel(lane),
      stop: () => {
        this.stopping = true;
        core.failAll(new AppError('shutting_down', 'The model is being unloaded.'));
      },
    };
  }

  handle(message: ToScorer): void {
    (this.#handlers[message.type] as (message: ToScorer) => void)(message);
  }

  step(): boolean {
    return this.#core.step();
  }

  report(): FromScorer {
    return { reports: this.#core.takeReports() };
  }
}

function open(data: ScoreWorkerData) {
  const checkpoint = openCheckpoint(data.source, data.runtime, data.options.contextLength);
  try {
    return startOn(checkpoint, data);
  } catch (error) {
    checkpoint.runtime[Symbol.dispose]();
    throw error;
  }
}

/** Throws `wrong_model_kind`, and `out_of_memory` where a batch's keys and values do not fit. */
function startOn({ runtime, decoder, contextLength }: OpenCheckpoint, { source }: ScoreWorkerData) {
  const { head, vocabulary } = decoder.config;
  if (head.kind !== 'reward') {
    throw new AppError('wrong_model_kind', `${source.directory} is a language model; ask it for text.`);
  }
  const positions = batchTokens[runtime.provider];
  const runner = new RewardRunner(runtime, decoder, Math.max(positions, contextLength));
  const ready: ScoreReady = {
    provider: runtime.provider,
    vocabularySize: vocabulary,
    contextLength,
    mean: head.mean,
  };
  return { runtime, core: new ScoreCore(runner, positions), ready };
}

async function main(port: MessagePort, data: ScoreWorkerData): Promise<void> {
  let opened: ReturnType<typeof open>;
  try {
    opened = open(data);
  } catch (error) {
    port.postMessage({ type: 'refused', error: serializeError(error) } satisfies Opening<ScoreReady>);
    return;
  }
  const { runtime, core, ready } = opened;
  try {
    port.postMessage({ type: 'ready', ready } satisfies Opening<ScoreReady>);
    await runSteps(port, new ScoreThread(core));
  } finally {
    core[Symbol.dispose]();
    runtime[Symbol.dispose]();
  }
  // Nothing is listened to any more, so the thread ends.
  port.close();
}

if (parentPort !== null) await main(parentPort, workerData as ScoreWorkerData);
