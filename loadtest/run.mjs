// Runs one of the load tests with the k6 on PATH: npm run loadtest -- json|sse|websocket [k6's options]
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const tests = ['json', 'sse', 'websocket'];
const [name = '', ...rest] = process.argv.slice(2);
if (!tests.includes(name)) {
  console.error(`usage: npm run loadtest -- ${tests.join('|')} [k6 options]; loadtest/README.md says more`);
  process.exit(2);
}

const keyInDataDirectory = () => {
  try {
    return readFileSync(join(process.env.DATA_DIR ?? './.instructd', 'admin-key'), 'utf8').trim();
  } catch {
    return '';
  }
};
const script = fileURLToPath(new URL(`./${name}.ts`, import.meta.url));
const { status, error } = spawnSync('k6', ['run', script, ...rest], {
  stdio: 'inherit',
  env: {
    ...process.env,
    URL: process.env.URL ?? process.env.INSTRUCTD_URL ?? `http://127.0.0.1:${process.env.PORT ?? 8080}`,
    KEY: process.env.KEY ?? process.env.INSTRUCTD_API_KEY ?? keyInDataDirectory(),
  },
});
if (error?.code === 'ENOENT')
  console.error('k6 is not on PATH. Install it (about 2 minutes): go install go.k6.io/k6@v1.8.1');
process.exit(status ?? 1);
