import { AppError } from '../core/errors.js';
import type { Tokenizer } from '../models/tokenizer/tokenizer.js';

interface Limited {
  readonly contextLength: number;
  readonly tokenizer: Tokenizer;
}

/**
 * Refuses a text that cannot fit the context however it is encoded. Encoding is work of the thread that serves everyone, and takes seconds
 * for the megabytes that a body may hold; this takes milliseconds. What passes is counted exactly later.
 * @throws AppError `context_length_exceeded` with both numbers.
 */
export function assertMayFit(text: string, { contextLength, tokenizer }: Limited, param: string): void {
  const fewest = tokenizer.fewestTokens(text, contextLength);
  if (fewest <= contextLength) return;
  throw new AppError(
    'context_length_exceeded',
    `This model's context is ${contextLength} tokens, but '${param}' alone has ${text.length} characters, which are at least ` +
      `${fewest} tokens. Shorten it.`,
    { param },
  );
}
