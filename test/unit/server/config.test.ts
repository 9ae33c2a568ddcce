import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AppError } from '../../../src/core/errors.js';
import { readConfig } from '../../../src/server/config.js';

test('an empty environment gives the documented defaults', () => {
  const { port, host, dataDirectory, apiKey, corsOrigins, models } = readConfig({});
  assert.deepEqual(
    { port, host, apiKey, corsOrigins },
    { port: 8080, host: '127.0.0.1', apiKey: null, corsOrigins: [] },
  );
  assert.match(dataDirectory, /\/\.instructd$/);
  assert.equal(models.provider, 'auto');
  assert.equal(models.threads, undefined);
});

test('a variable that is set but empty takes its default', () => {
  assert.equal(readConfig({ PORT: '' }).port, 8080);
});

for (const [name, value] of Object.entries({
  PORT: '65536',
  SLOTS: '0',
  THREADS: 'two',
  PROVIDER: 'gpu',
  LOG_LEVEL: 'loud',
  DRAIN_SECONDS: '-1',
  CONTEXT_LENGTH: '1.5',
  CUDA_DEVICE: '-1',
  CUDA_ARENA: 'kNextPowerOfTwo',
  CUDA_GRAPHS: 'true',
  INSTRUCTD_API_KEY: 'has space',
}))
  test(`${name}=${value} is refused by name`, () => {
    assert.throws(
      () => readConfig({ [name]: value }),
      (error: AppError) =>
        error.code === 'configuration_invalid' && error.param === name && error.message.startsWith(name),
    );
  });

test('what CUDA models run with is read whole, and no limit is left out', () => {
  assert.deepEqual(readConfig({}).models.cuda, {
    deviceId: 0,
    arenaExtend: 'same_as_requested',
    graphs: false,
  });
  const set = {
    CUDA_DEVICE: '1',
    CUDA_MEMORY_LIMIT_BYTES: '8589934592',
    CUDA_ARENA: 'next_power_of_two',
    CUDA_GRAPHS: 'on',
  };
  assert.deepEqual(readConfig(set).models.cuda, {
    deviceId: 1,
    memoryLimitBytes: 2 ** 33,
    arenaExtend: 'next_power_of_two',
    graphs: true,
  });
});

test('origins and preloaded models are lists', () => {
  const config = readConfig({ CORS_ORIGINS: 'https://a.test, https://b.test', PRELOAD: 'one,two' });
  assert.deepEqual(config.corsOrigins, ['https://a.test', 'https://b.test']);
  assert.deepEqual(config.models.preload, ['one', 'two']);
});

test('any visible ASCII key is taken, however short', () => {
  assert.equal(readConfig({ INSTRUCTD_API_KEY: 'k' }).apiKey, 'k');
  assert.equal(readConfig({ INSTRUCTD_API_KEY: 'sk-"~!' }).apiKey, 'sk-"~!');
  assert.throws(() => readConfig({ INSTRUCTD_API_KEY: 'ключ' }), { code: 'configuration_invalid' });
});
