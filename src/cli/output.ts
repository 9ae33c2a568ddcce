import { type AppError, toAppError } from '../core/errors.js';

/** What a command shows: results on stdout, everything else on stderr. */

export const printJson = (value: unknown): void => {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
};

export const note = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

/** One line with the code and the way out, and exit code 1; the stack only with LOG_LEVEL=debug. */
export function reportError(thrown: unknown, asJson: boolean): void {
  process.exitCode = 1;
  const error: AppError = toAppError(thrown);
  const { code, message, param } = error;
  note(
    asJson
      ? JSON.stringify({ error: { message, type: error.kind, param, code } })
      : `error: ${message} [${code}]`,
  );
  const isVerbose = ['debug', 'trace'].includes(process.env.LOG_LEVEL ?? '');
  if (isVerbose)
    for (let at: unknown = error; at instanceof Error; at = at.cause) note(at.stack ?? at.message);
  else if (code === 'internal_error' && !asJson) note('LOG_LEVEL=debug shows where.');
}

/** Rows as aligned columns under a header line. */
export function printTable(header: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  for (const row of [header, ...rows])
    process.stdout.write(
      `${row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd()}\n`,
    );
}

/** 134515008 -> '135M'. */
export function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(1)}B`;
  if (count >= 1e6) return `${Math.round(count / 1e6)}M`;
  return count >= 1e3 ? `${Math.round(count / 1e3)}k` : String(count);
}
