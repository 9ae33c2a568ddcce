import { text as readAll } from 'node:stream/consumers';
import { AppError } from '../core/errors.js';
import { findService, ServiceClient } from './service-client.js';

export interface GenerateOptions {
  readonly maxTokens?: string;
  readonly temperature?: string;
  readonly seed?: string;
  readonly system?: string;
}

/** `instructd chat`: one answer, streamed to stdout as it comes. */
export async function chat(model: string, words: readonly string[], options: GenerateOptions): Promise<void> {
  const content = await textOf(words);
  const messages = [
    ...(options.system === undefined ? [] : [{ role: 'system', content: options.system }]),
    { role: 'user', content },
  ];
  await print<{ readonly delta: { readonly content?: string | null } }>(
    '/v1/chat/completions',
    { ...sampling(options), model, messages },
    ({ delta }) => delta.content ?? '',
  );
}

/** `instructd complete`: the text goes on. */
export async function complete(
  model: string,
  words: readonly string[],
  options: GenerateOptions,
): Promise<void> {
  const prompt = await textOf(words);
  await print<{ readonly text: string }>(
    '/v1/completions',
    { ...sampling(options), model, prompt },
    ({ text }) => text,
    prompt,
  );
}

async function print<Choice>(
  path: string,
  body: object,
  textOfChoice: (choice: Choice) => string,
  before = '',
): Promise<void> {
  const client = new ServiceClient(await findService());
  const events = client.stream<{ readonly choices: readonly Choice[] }>(path, { ...body, stream: true });
  let rest = before;
  for await (const { choices } of events) {
    for (const choice of choices) {
      process.stdout.write(rest + textOfChoice(choice));
      rest = '';
    }
  }
  process.stdout.write('\n');
}

async function textOf(words: readonly string[]): Promise<string> {
  if (words.length > 0) return words.join(' ');
  if (process.stdin.isTTY)
    throw new AppError('missing_required_parameter', 'Give a text, or pipe one to stdin.');
  return (await readAll(process.stdin)).trimEnd();
}

const sampling = ({ maxTokens, temperature, seed }: GenerateOptions) => ({
  ...(maxTokens !== undefined && { max_tokens: number('--max-tokens', maxTokens) }),
  ...(temperature !== undefined && { temperature: number('--temperature', temperature) }),
  ...(seed !== undefined && { seed: number('--seed', seed) }),
});

function number(option: string, value: string): number {
  const parsed = Number(value);
  if (value.trim() !== '' && Number.isFinite(parsed)) return parsed;
  throw new AppError('invalid_value', `${option} is '${value}', but must be a number.`, { param: option });
}
