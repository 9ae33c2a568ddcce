import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError } from '../core/errors.js';

/** Who may call: one admin key, compared by its hash in constant time. */

/** A key of fewer characters can be guessed over the network. */
export const SAFE_KEY_LENGTH = 16;

export interface Keys {
  /** Throws `invalid_api_key`. */
  check(authorization: string | undefined): void;
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

export function keysOf(adminKey: string): Keys {
  const admin = sha256(adminKey);
  return {
    check(authorization) {
      const presented = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
      if (presented === undefined)
        throw new AppError(
          'invalid_api_key',
          'No API key given; send the header Authorization: Bearer <key>',
        );
      if (!timingSafeEqual(sha256(presented), admin))
        throw new AppError('invalid_api_key', 'The API key is not known to this service');
    },
  };
}

export interface AdminKey {
  readonly key: string;
  /** Made just now: to be printed once. */
  readonly created: boolean;
  /** Where the CLI finds it. */
  readonly path: string;
}

/**
 * The admin key: the configured one, else the one kept in the data directory, else a new one. It is kept in DATA_DIR/admin-key with
 * mode 0600.
 */
export async function loadAdminKey(dataDirectory: string, configured: string | null): Promise<AdminKey> {
  const path = join(dataDirectory, 'admin-key');
  const kept = await readFile(path, 'utf8').then(
    (text) => text.trim(),
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return '';
      throw unusable(`cannot read ${path}`, error);
    },
  );
  const key = configured ?? (kept || `sk-instructd-${randomBytes(24).toString('base64url')}`);
  if (key !== kept)
    await writeKey(dataDirectory, path, key).catch((error: Error) => {
      throw unusable(`cannot write ${path}`, error);
    });
  return { key, created: configured === null && kept === '', path };
}

async function writeKey(dataDirectory: string, path: string, key: string): Promise<void> {
  await makeDirectory(dataDirectory);
  const draft = `${path}.${process.pid}`;
  const file = await open(draft, 'w', 0o600);
  try {
    await file.writeFile(`${key}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
}

/** As mkdir -p. Node's own never returns where a file system refuses with ENOENT under a directory that exists, as procfs does. */
async function makeDirectory(path: string): Promise<void> {
  const make = () =>
    mkdir(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  try {
    await make();
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(path) === path) throw thrown;
    await makeDirectory(dirname(path));
    await make();
  }
}

const unusable = (what: string, cause: Error): AppError =>
  new AppError('configuration_invalid', `DATA_DIR: ${what}: ${cause.message}`, { param: 'DATA_DIR', cause });
