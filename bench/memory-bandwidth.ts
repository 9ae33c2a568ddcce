import { availableParallelism } from 'node:os';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';

const bytes = 128 * 2 ** 20;
const rounds = 8;

/**
 * Bytes per second that this machine reads and writes in a copy of 128 MiB by every core at once: what STREAM calls Copy, both
 * directions counted. The best of the rounds, since anything else on the machine only takes away.
 */
export async function copyBandwidth(): Promise<number> {
  const workers = Array.from({ length: availableParallelism() }, () => new Worker(new URL(import.meta.url)));
  try {
    let best = 0;
    for (let round = 0; round < rounds; round++) {
      const seconds = await Promise.all(workers.map(copyOnce));
      best = Math.max(best, (2 * bytes * workers.length) / Math.max(...seconds));
    }
    return best;
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

const copyOnce = (worker: Worker): Promise<number> =>
  new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.postMessage(null);
  });

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  const source = new Uint8Array(bytes).fill(1);
  const target = new Uint8Array(bytes).fill(2);
  port.on('message', () => {
    const start = performance.now();
    target.set(source);
    port.postMessage((performance.now() - start) / 1000);
  });
}
