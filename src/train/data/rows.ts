import { AppError } from '../../core/errors.js';

/** The four kinds of dataset row, parsed once; what is wrong is named by line and field. */

export interface Message {
  readonly role: string;
  readonly content: string;
}

/** What a completion answers. */
export type Context =
  | { readonly type: 'text'; readonly prompt: string }
  | { readonly type: 'messages'; readonly messages: readonly Message[] };

export interface PromptRow {
  readonly kind: 'prompts';
  readonly context: Context;
  readonly user: string | null;
  readonly metadata: Readonly<Record<string, unknown>>;
}

export interface DemonstrationRow {
  readonly kind: 'demonstrations';
  readonly context: Context;
  readonly completion: string;
  readonly user: string | null;
  readonly labeler: string | null;
}

/** K completions of one context with ranks: 1 is best, equal is a tie. */
export interface ComparisonRow {
  readonly kind: 'comparisons';
  readonly context: Context;
  readonly completions: readonly string[];
  readonly ranks: readonly number[];
  readonly user: string | null;
  readonly labeler: string | null;
}

export interface PretrainingRow {
  readonly kind: 'pretraining';
  readonly text: string;
}

export interface RowOf {
  readonly prompts: PromptRow;
  readonly demonstrations: DemonstrationRow;
  readonly comparisons: ComparisonRow;
  readonly pretraining: PretrainingRow;
}
export type DatasetKind = keyof RowOf;
export const datasetKinds = [
  'prompts',
  'demonstrations',
  'comparisons',
  'pretraining',
] as const satisfies readonly DatasetKind[];

type Fields = Readonly<Record<string, unknown>>;

/** What a field's reader says when the field is wrong: field and reason; the caller knows the line. */
class FieldError extends Error {
  readonly field: string;
  constructor(field: string, reason: string) {
    super(reason);
    this.field = field;
  }
}

const parsers: { readonly [K in DatasetKind]: (fields: Fields) => RowOf[K] } = {
  prompts: (fields) => ({
    kind: 'prompts',
    context: contextOf(fields),
    user: optionalText(fields, 'user'),
    metadata: metadataOf(fields),
  }),
  demonstrations: (fields) => ({
    kind: 'demonstrations',
    context: contextOf(fields),
    completion: filledText(fields, 'completion'),
    user: optionalText(fields, 'user'),
    labeler: optionalText(fields, 'labeler'),
  }),
  comparisons: (fields) => ({
    kind: 'comparisons',
    ...rankedCompletions(fields),
    user: optionalText(fields, 'user'),
    labeler: optionalText(fields, 'labeler'),
  }),
  pretraining: (fields) => ({ kind: 'pretraining', text: filledText(fields, 'text') }),
};

/**
 * One line of a JSONL dataset.
 * @param line from 1, for the message
 * @throws AppError `invalid_row`; param is `line <n>: <field>`
 */
export function parseRow<K extends DatasetKind>(kind: K, text: string, line: number): RowOf[K] {
  const refuse = (field: string, reason: string): never => {
    const at = field === '' ? `line ${line}` : `line ${line}: ${field}`;
    throw new AppError('invalid_row', `Line ${line} is no row of ${kind}: ${reason}`, { param: at });
  };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return refuse('', `it is not JSON (${(error as Error).message}).`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return refuse('', 'it is not a JSON object.');
  try {
    return parsers[kind](value as Fields);
  } catch (error) {
    if (error instanceof FieldError) return refuse(error.field, error.message);
    throw error;
  }
}

function contextOf(fields: Fields): Context {
  const { prompt, messages } = fields;
  if (prompt !== undefined && messages !== undefined)
    throw new FieldError('messages', 'give `prompt` or `messages`, not both.');
  if (messages !== undefined) return { type: 'messages', messages: messagesOf(messages) };
  if (prompt === undefined) throw new FieldError('prompt', '`prompt` or `messages` is missing.');
  return { type: 'text', prompt: filledText(fields, 'prompt') };
}

function messagesOf(value: unknown): Message[] {
  if (!Array.isArray(value) || value.length === 0)
    throw new FieldError('messages', '`messages` must be a list of at least one message.');
  return value.map((message: unknown, i) => {
    const { role, content } = (message ?? {}) as Fields;
    if (typeof role !== 'string' || role === '')
      throw new FieldError(`messages.${i}.role`, 'a message needs a role.');
    if (typeof content !== 'string')
      throw new FieldError(`messages.${i}.content`, 'a message needs content as a string.');
    return { role, content };
  });
}

function rankedCompletions(fields: Fields): Pick<ComparisonRow, 'context' | 'completions' | 'ranks'> {
  if (fields.chosen !== undefined || fields.rejected !== undefined) return chosenAndRejected(fields);
  const completions = textList(fields, 'completions');
  if (completions.length < 2)
    throw new FieldError('completions', 'a comparison needs at least two completions.');
  const { ranks } = fields;
  if (!Array.isArray(ranks) || ranks.length !== completions.length)
    throw new FieldError(
      'ranks',
      `\`ranks\` must have one rank for each of the ${completions.length} completions.`,
    );
  ranks.forEach((rank: unknown, i) => {
    if (!Number.isInteger(rank) || (rank as number) < 1)
      throw new FieldError(`ranks.${i}`, 'a rank is a whole number from 1 (best).');
  });
  if (new Set(ranks).size === 1)
    throw new FieldError(
      'ranks',
      'all completions are tied, so there is nothing to learn: rank one above another or leave the row out.',
    );
  return { context: contextOf(fields), completions, ranks: ranks as number[] };
}

/** `{prompt, chosen, rejected}`, or HH-RLHF's whole dialogues in `chosen` and `rejected`. */
function chosenAndRejected(fields: Fields): Pick<ComparisonRow, 'context' | 'completions' | 'ranks'> {
  const chosen = filledText(fields, 'chosen');
  const rejected = filledText(fields, 'rejected');
  if (chosen === rejected) throw new FieldError('rejected', '`chosen` and `rejected` are the same text.');
  const ranks = [1, 2];
  if (fields.prompt !== undefined || fields.messages !== undefined)
    return { context: contextOf(fields), completions: [chosen, rejected], ranks };
  const cut = sharedTurns(chosen, rejected);
  if (cut === null)
    throw new FieldError(
      'prompt',
      'without `prompt`, `chosen` and `rejected` must be dialogues that share their turns up to an "Assistant:" turn.',
    );
  return {
    context: { type: 'text', prompt: chosen.slice(0, cut) },
    completions: [chosen.slice(cut), rejected.slice(cut)],
    ranks,
  };
}

const ASSISTANT_TURN = '\n\nAssistant:';

/** Length of the dialogue up to the last assistant turn that both texts share; null where they share none. */
function sharedTurns(one: string, two: string): number | null {
  let same = 0;
  while (same < one.length && one[same] === two[same]) same++;
  const start = one.lastIndexOf(ASSISTANT_TURN, same - ASSISTANT_TURN.length);
  return start < 0 ? null : start + ASSISTANT_TURN.length;
}

function filledText(fields: Fields, field: string): string {
  const value = fields[field];
  if (typeof value !== 'string') throw new FieldError(field, `\`${field}\` must be a string.`);
  if (value.trim() === '') throw new FieldError(field, `\`${field}\` is empty.`);
  return value;
}

function optionalText(fields: Fields, field: string): string | null {
  const value = fields[field];
  if (value === undefined || value === null) return null;
  if (typeof value !== 'string') throw new FieldError(field, `\`${field}\` must be a string.`);
  return value;
}

function textList(fields: Fields, field: string): string[] {
  const value = fields[field];
  if (!Array.isArray(value)) throw new FieldError(field, `\`${field}\` must be a list of strings.`);
  value.forEach((item: unknown, i) => {
    if (typeof item !== 'string')
      throw new FieldError(`${field}.${i}`, `\`${field}\` must be a list of strings.`);
    if (item.trim() === '') throw new FieldError(`${field}.${i}`, 'a completion is empty.');
  });
  return value as string[];
}

function metadataOf(fields: Fields): Readonly<Record<string, unknown>> {
  const { metadata } = fields;
  if (metadata === undefined || metadata === null) return {};
  if (typeof metadata !== 'object' || Array.isArray(metadata))
    throw new FieldError('metadata', '`metadata` must be an object.');
  return metadata as Record<string, unknown>;
}
