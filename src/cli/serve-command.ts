export interface ServeOptions {
  readonly port?: string;
  readonly host?: string;
  readonly dataDir?: string;
  readonly provider?: string;
  readonly threads?: string;
}

const variables = {
  port: 'PORT',
  host: 'HOST',
  dataDir: 'DATA_DIR',
  provider: 'PROVIDER',
  threads: 'THREADS',
} as const satisfies Record<keyof ServeOptions, string>;

/** `instructd serve`: an option stands for its environment variable and wins over it. */
export async function serve(options: ServeOptions): Promise<void> {
  const [{ serve: runServer }, { readConfig }, { openModelPool }] = await Promise.all([
    import('../server/main.js'),
    import('../server/config.js'),
    import('../models/file-model-pool.js'),
  ]);
  const given = Object.entries(options).map(([name, value]) => [
    variables[name as keyof ServeOptions],
    value,
  ]);
  await runServer(readConfig({ ...process.env, ...Object.fromEntries(given) }), openModelPool);
}
