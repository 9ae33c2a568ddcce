import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../../core/errors.js';
import { textFiles, weightsFile, weightsIndexFile } from '../checkpoint/checkpoint-files.js';
import { type HubFile, type HubOptions, HubRepository } from './hub-repository.js';
import { idleTime } from './shared-directory.js';

/** Models from a Hugging Face hub: the files a checkpoint needs, checked by size and hash, resumed where a download broke off. */

export interface HubAsk {
  /** `organisation/name`. */
  readonly repository: string;
  /** Branch, tag or commit. */
  readonly revision: string;
}

export interface DownloadProgress {
  readonly file: string;
  /** Bytes of all files, those of an earlier attempt included. */
  readonly received: number;
  readonly total: number;
}

export interface Snapshot {
  /** Holds the files and nothing else; the caller owns it. */
  readonly directory: string;
  /** The commit that the revision named. */
  readonly commit: string;
  /** Gives the files back, for the next call to take over. */
  release(): Promise<void>;
  discard(): Promise<void>;
}

/** A download that no process has written to for so long is free to take over. */
const ABANDONED_AFTER_MS = 10 * 60 * 1000;

/**
 * Downloads a snapshot into a directory of its own under `downloads`. What a failed or aborted call has received stays there and the
 * next call for the same commit goes on from it.
 * @param inspect Sees the directory when all but the weights are there, so that what cannot run is refused before they are fetched.
 * @throws AppError `hub_failed` with the hub's answer, `checkpoint_invalid` where the repository has no safetensors,
 *   `request_cancelled` on abort, and what `inspect` throws.
 */
export async function downloadSnapshot(
  hub: HubOptions,
  ask: HubAsk,
  downloads: string,
  inspect: (directory: string) => Promise<unknown>,
  onProgress: (progress: DownloadProgress) => void,
  signal: AbortSignal,
): Promise<Snapshot> {
  const repository = new HubRepository(hub, ask.repository, ask.revision, signal);
  const cancelled = (cause: unknown) =>
    signal.aborted ? new AppError('request_cancelled', 'The download was cancelled.', { cause }) : cause;
  try {
    const commit = await repository.commit();
    const listed = await repository.files(commit);
    await mkdir(downloads, { recursive: true });
    const idle = join(downloads, `${ask.repository.replaceAll('/', '--')}@${commit}`);
    const directory = await claim(downloads, idle);
    try {
      await downloadAll(repository, commit, listed, directory, inspect, onProgress);
    } catch (error) {
      await release(directory, idle);
      throw error;
    }
    return {
      directory,
      commit,
      release: () => release(directory, idle),
      discard: () => rm(directory, { recursive: true, force: true }),
    };
  } catch (error) {
    throw cancelled(error);
  }
}

async function downloadAll(
  repository: HubRepository,
  commit: string,
  listed: ReadonlyMap<string, HubFile>,
  directory: string,
  inspect: (directory: string) => Promise<unknown>,
  onProgress: (progress: DownloadProgress) => void,
): Promise<void> {
  const { texts, weights } = await filesNeeded(repository, commit, listed, directory);
  const total = [...texts, ...weights].reduce((sum, { size }) => sum + size, 0);
  let before = 0;
  for (const file of [...texts, ...weights]) {
    if (file === weights[0]) await inspect(directory);
    await repository.download(commit, file, directory, (received) =>
      onProgress({ file: file.path, received: before + received, total }),
    );
    before += file.size;
  }
}

/** The text files, and the weights: one file, or the shards that the index names. */
async function filesNeeded(
  repository: HubRepository,
  commit: string,
  listed: ReadonlyMap<string, HubFile>,
  directory: string,
): Promise<{ readonly texts: readonly HubFile[]; readonly weights: readonly HubFile[] }> {
  const need = (path: string): HubFile => {
    const file = listed.get(path);
    if (file !== undefined) return file;
    throw new AppError(
      'checkpoint_invalid',
      `${repository.name} has no ${path}; only checkpoints in safetensors with a config.json can be imported.`,
      { param: path },
    );
  };
  need('config.json');
  const texts = [...listed.values()].filter(({ path }) => textFiles.has(path));
  if (!listed.has(weightsIndexFile)) return { texts, weights: [need(weightsFile)] };
  const index = need(weightsIndexFile);
  await repository.download(commit, index, directory, () => {});
  const { weight_map: shards } = JSON.parse(await readFile(join(directory, weightsIndexFile), 'utf8')) as {
    weight_map: Readonly<Record<string, string>>;
  };
  return { texts: [...texts, index], weights: [...new Set(Object.values(shards))].sort().map(need) };
}

/**
 * Takes the download's directory over by renaming it, so that two processes never write one file: the idle one of an earlier failure,
 * or one whose process died, or else a new one.
 */
async function claim(downloads: string, idle: string): Promise<string> {
  const mine = `${idle}.${randomBytes(4).toString('hex')}`;
  const takeOver = (from: string) =>
    rename(from, mine).then(
      () => true,
      () => false,
    );
  if (await takeOver(idle)) return mine;
  for (const name of await readdir(downloads)) {
    const candidate = join(downloads, name);
    if (!candidate.startsWith(`${idle}.`)) continue;
    if ((await idleTime(candidate)) > ABANDONED_AFTER_MS && (await takeOver(candidate))) return mine;
  }
  await mkdir(mine);
  return mine;
}

async function release(directory: string, idle: string): Promise<void> {
  // Where another process left its own part of the same download, one is enough.
  await rename(directory, idle).catch(() => rm(directory, { recursive: true, force: true }));
}
