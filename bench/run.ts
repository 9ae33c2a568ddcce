/** `npm run bench -- NAME ...` runs dist/bench/NAME.js; without a name it lists them. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Modules of this folder that are benchmarks; each default-exports its run. */
const benchmarks = [
  'engine',
  'graph-build',
  'ppo',
  'real-training',
  'recompute-memory',
  'runtime-overhead',
  'serving',
  'tokenizer',
  'training',
  'world',
] as const;

const [name, ...args] = process.argv.slice(2);
const known = benchmarks.find((benchmark) => benchmark === name);
if (known === undefined) {
  const folder = fileURLToPath(new URL('.', import.meta.url));
  const built = benchmarks.filter((benchmark) => readdirSync(folder).includes(`${benchmark}.js`));
  console.log(`npm run bench -- NAME, where NAME is one of: ${built.join(', ')}`);
  process.exitCode = name === undefined ? 0 : 1;
} else {
  const module = (await import(new URL(`./${known}.js`, import.meta.url).href)) as {
    default(args: readonly string[]): Promise<void>;
  };
  await module.default(args);
}
