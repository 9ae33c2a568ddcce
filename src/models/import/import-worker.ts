import { parentPort, workerData } from 'node:worker_threads';
import { serializeError } from '../../core/errors.js';
import { type StagingJob, type StagingMessage, stageCheckpoint } from './checkpoint-staging.js';

/** Entry of the worker thread that stages one checkpoint. */

const post = (message: StagingMessage) => parentPort?.postMessage(message);

try {
  const summary = await stageCheckpoint(workerData as StagingJob, (progress) =>
    post({ type: 'progress', progress }),
  );
  post({ type: 'done', summary });
} catch (error) {
  post({ type: 'failed', error: serializeError(error) });
}
