import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** What it takes to share a directory between processes without a lock: renames that last, and a sign of life. */

/** Writes the file and waits until it is on the disk. */
export async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A rename is durable only once the directory that holds the name is. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Milliseconds since anything in the directory was written; 0 where it is going this moment. */
export async function idleTime(directory: string): Promise<number> {
  try {
    const names = await readdir(directory);
    const paths = [directory, ...names.map((name) => join(directory, name))];
    const stats = await Promise.all(paths.map((path) => stat(path)));
    return Date.now() - Math.max(...stats.map(({ mtimeMs, ctimeMs }) => Math.max(mtimeMs, ctimeMs)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw error;
  }
}
