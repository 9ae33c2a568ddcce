/** Thread entry: opens a language model and runs its engine until told to stop. */
import { setImmediate as turn } from 'node:timers/promises';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { AppError, serializeError } from '../../core/errors.js';
import { DecoderRunner } from './decoder-runner.js';
import { EngineCore } from './engine-core.js';
import type { EngineReady, EngineWorkerData, FromEngine, ToEngine } from './engine-messages.js';
import { openCheckpoint } from './open-checkpoint.js';
import type { Opening } from './supervised-worker.js';

type Handlers = { readonly [T in ToEngine['type']]: (message: Extract<ToEngine, { type: T }>) => void };

/** Steps while there is work, and lets messages in between two steps: a cancel waits for one step at most. */
async function serve(core: EngineCore, port: MessagePort): Promise<void> {
  let stopping = false;
  let changed = false;
  let wake = () => {};
  const handlers: Handlers = {
    generate: ({ lane, request }) => core.add(lane, request),
    finish: ({ lane, sequence }) => core.finish(lane, sequence),
    cancel: ({ lane }) => core.cancel(lane),
    credit: ({ lane, tokens }) => core.credit(lane, tokens),
    stop: () => {
      stopping = true;
      core.failAll(new AppError('shutting_down', 'The model is being unloaded.'));
    },
  };
  port.on('message', (message: ToEngine) => {
    (handlers[message.type] as (message: ToEngine) => void)(message);
    changed = true;
    wake();
  });
  while (!stopping || changed) {
    const stepped = core.step();
    if (stepped || changed) {
      changed = false;
      const report: FromEngine = { reports: core.takeReports(), stats: core.stats };
      port.postMessage(report);
    }
    if (stepped) await turn();
    else if (!stopping) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
}

async function main(port: MessagePort, { source, runtime, engine }: EngineWorkerData): Promise<void> {
  let opened: ReturnType<typeof openCheckpoint>;
  let core: EngineCore;
  let options = engine;
  try {
    opened = openCheckpoint(source, runtime, engine.contextLength);
    const { head } = opened.decoder.graph;
    if (head.kind !== 'language') {
      throw new AppError('wrong_model_kind', `${source.directory} is a reward model; ask it for scores.`);
    }
    options = { ...engine, contextLength: opened.contextLength };
    const runner = new DecoderRunner(opened, head.vocabulary, options, opened.version);
    core = new EngineCore(runner, options, () => performance.now());
    const ready: EngineReady = {
      provider: opened.runtime.provider,
      vocabularySize: head.vocabulary,
      contextLength: options.contextLength,
    };
    port.postMessage({ type: 'ready', ready } satisfies Opening<EngineReady>);
  } catch (error) {
    port.postMessage({ type: 'refused', error: serializeError(error) } satisfies Opening<EngineReady>);
    return;
  }
  await serve(core, port);
  core[Symbol.dispose]();
  opened.runtime[Symbol.dispose]();
  // Nothing is listened to any more, so the thread ends.
  port.close();
}

if (parentPort !== null) await main(parentPort, workerData as EngineWorkerData);
