import { setImmediate as turn } from 'node:timers/promises';
import type { MessagePort } from 'node:worker_threads';

/** What a model's thread does between messages. */
export interface SteppingModel<ToWorker> {
  /** Messages come in between two steps, never during one. */
  handle(message: ToWorker): void;
  /** Runs the model once; false where there is nothing to do until a message comes. */
  step(): boolean;
  /** What to send after a step or a message. */
  report(): unknown;
  /** Told to stop: the loop ends once the last report is out. */
  readonly stopping: boolean;
}

/** Steps while there is work, and lets messages in after every step: a cancel waits for one step at most. */
export async function runSteps<ToWorker>(port: MessagePort, model: SteppingModel<ToWorker>): Promise<void> {
  let heard = false;
  let wake = () => {};
  port.on('message', (message: ToWorker) => {
    model.handle(message);
    heard = true;
    wake();
  });
  for (;;) {
    const { stopping } = model;
    const stepped = !stopping && model.step();
    if (stepped || heard) {
      heard = false;
      port.postMessage(model.report());
    }
    if (stopping) return;
    if (stepped) await turn();
    else {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
}
