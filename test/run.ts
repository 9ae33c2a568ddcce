/**
 * Runs the test tiers named on the command line (unit, runtime, service), or single files, with Node's own runner, and ends on the line
 * 'N passed, N failed, N skipped'. A skipped test prints its reason; in CI a test may not be skipped for want of a service.
 */
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

const filesOf = (target: string): string[] => {
  if (existsSync(resolve(target)) && target.endsWith('.js')) return [resolve(target)];
  const folder = join(here, target);
  if (!existsSync(folder)) throw new Error(`no tests at ${folder}; tiers are unit, runtime, service`);
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.js'))
    .sort()
    .map((name) => join(folder, name));
};

const count = { passed: 0, failed: 0, skipped: 0 };
const skips: string[] = [];
const started = performance.now();

// A service test owns ports and both cores; unit tests share nothing.
for (const target of process.argv.slice(2)) {
  const concurrency = target === 'unit' ? availableParallelism() : 1;
  const stream = run({ files: filesOf(target), concurrency, timeout: 600_000 });
  const isLeaf = (details: { type?: string | undefined }) => details.type !== 'suite';
  stream.on('test:pass', ({ name, skip, todo, details }) => {
    if (!isLeaf(details)) return;
    if (skip !== undefined || todo !== undefined) {
      count.skipped++;
      skips.push(`skipped: ${name}: ${typeof skip === 'string' ? skip : 'no reason given'}`);
    } else count.passed++;
  });
  stream.on('test:fail', ({ details }) => {
    if (isLeaf(details)) count.failed++;
  });
  for await (const text of stream.compose(spec)) process.stdout.write(text);
}

if (count.passed + count.failed === 0) {
  console.error('no test ran');
  count.failed++;
}
for (const line of skips) console.log(line);
console.log(`${((performance.now() - started) / 1000).toFixed(1)} s`);
console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
process.exitCode = count.failed > 0 ? 1 : 0;
