import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Reference data lives outside the repository: at INSTRUCTD_SHARED, or beside the checkout. */
const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const shared = process.env.INSTRUCTD_SHARED ?? join(root, '..', 'shared');

export const sharedPath = (...parts: string[]): string => join(shared, ...parts);

/** For a test's `skip`: the reason where the data is absent. In CI it must be there, and the test fails instead. */
export const skipWithoutShared: string | false =
  existsSync(shared) || process.env.CI === 'true' ? false : `no reference data at ${shared}`;
