/** Values of config.json, each checked where it is read. */
import { AppError } from '../../core/errors.js';

export type Json = Readonly<Record<string, unknown>>;

/** A key whose value means arithmetic that we lack. */
export const unsupported = (key: string, value: unknown, runs: string): AppError =>
  new AppError(
    'model_not_supported',
    `config.json has ${key} = ${JSON.stringify(value)}, which instructd cannot run; it runs ${runs}.`,
    { param: key },
  );

/** A key whose value means nothing. */
export const broken = (key: string, value: unknown, needed: string): AppError =>
  new AppError(
    'checkpoint_invalid',
    `config.json has ${key} = ${JSON.stringify(value)} where ${needed} is needed.`,
    {
      param: key,
    },
  );

export const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export function positiveInteger(json: Json, key: string, fallback?: number): number {
  const value = json[key] ?? fallback;
  if (!Number.isSafeInteger(value) || (value as number) < 1) throw broken(key, value, 'a positive integer');
  return value as number;
}

export function positiveNumber(json: Json, key: string, fallback?: number): number {
  const value = json[key] ?? fallback;
  if (typeof value !== 'number' || !(value > 0) || value === Infinity)
    throw broken(key, value, 'a positive number');
  return value;
}

export function flag(json: Json, key: string, fallback: boolean): boolean {
  const value = json[key] ?? fallback;
  if (typeof value !== 'boolean') throw broken(key, value, 'true or false');
  return value;
}
