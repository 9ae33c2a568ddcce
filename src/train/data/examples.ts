/** Rows as token ids: what a trainer sees is what the service would send to the model for the same text. */
import { AppError } from '../../core/errors.js';
import type { TokenId } from '../../core/units.js';
import type { ChatTemplate, Tokenizer } from '../../models/tokenizer/tokenizer.js';
import type { NumberedRow } from './jsonl.js';
import type { Context } from './rows.js';

/** A sequence of which the tokens from `start` on are learned. */
export interface Example {
  readonly tokens: Int32Array;
  /** Index of the first token that carries loss, at least 1: the token before it predicts it. */
  readonly start: number;
}

/** K completions of one prompt, each as a whole sequence. */
export interface RankedExample {
  readonly sequences: readonly Example[];
  /** 1 is best, equal is a tie. */
  readonly ranks: readonly number[];
}

export interface EncoderParts {
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
  /** Most tokens of a sequence: the model's context, or less. */
  readonly contextLength: number;
}

/** Turns rows into examples. Text of users is text: a `<|im_end|>` that they wrote stays those characters. */
export class ExampleEncoder {
  readonly contextLength: number;
  readonly #tokenizer: Tokenizer;
  readonly #chatTemplate: ChatTemplate | null;

  constructor({ tokenizer, chatTemplate, contextLength }: EncoderParts) {
    this.#tokenizer = tokenizer;
    this.#chatTemplate = chatTemplate;
    this.contextLength = contextLength;
  }

  /** The prompt's ids, ready for the first token of an answer. Throws `example_too_long`, `chat_template_failed`. */
  prompt(context: Context, line: number): TokenId[] {
    const ids =
      context.type === 'text'
        ? this.#tokenizer.withSpecialTokens(this.#tokenizer.encode(context.prompt, 'as_text'))
        : this.#template().encode(context.messages, { addGenerationPrompt: true });
    if (ids.length >= this.contextLength)
      throw new AppError(
        'example_too_long',
        `Line ${line}: the prompt has ${ids.length} tokens and leaves no room for an answer in a context of ${this.contextLength}.`,
        { param: `line ${line}: ${context.type === 'text' ? 'prompt' : 'messages'}` },
      );
    return ids;
  }

  /** Prompt, completion and the token that ends it. Throws `example_too_long`, `empty_completion`. */
  demonstration({ line, row }: NumberedRow<'demonstrations'>): Example {
    return this.#answered(row.context, row.completion, line, 'completion');
  }

  /** Each completion as `demonstration` has it: what a policy would have written. */
  answers({ line, row }: NumberedRow<'comparisons'>): RankedExample {
    const sequences = row.completions.map((completion, i) =>
      this.#answered(row.context, completion, line, `completions.${i}`),
    );
    return { sequences, ranks: row.ranks };
  }

  /** Each completion as `scored` has it. */
  comparison({ line, row }: NumberedRow<'comparisons'>): RankedExample {
    const sequences = row.completions.map((completion, i) =>
      this.#scored(row.context, completion, line, `completions.${i}`),
    );
    return { sequences, ranks: row.ranks };
  }

  /** Prompt and completion as /v1/rewards gives them to a reward model: no end of text behind plain text, a whole turn behind messages. */
  scored({ line, row }: NumberedRow<'demonstrations'>): Example {
    return this.#scored(row.context, row.completion, line, 'completion');
  }

  /** A document and its end, in pieces of the context's length. */
  pretraining({ row }: NumberedRow<'pretraining'>): Example[] {
    const ids = [
      ...this.#tokenizer.withSpecialTokens(this.#tokenizer.encode(row.text, 'as_text')),
      this.#endOfText(),
    ];
    const pieces: Example[] = [];
    for (let from = 0; from < ids.length - 1; from += this.contextLength)
      pieces.push({ tokens: Int32Array.from(ids.slice(from, from + this.contextLength)), start: 1 });
    return pieces.filter(({ tokens }) => tokens.length > 1);
  }

  #answered(context: Context, completion: string, line: number, field: string): Example {
    const prompt = this.prompt(context, line);
    const answer = this.#answer(completion, line, field);
    return this.#example(prompt, [...answer, this.#endOf(context)], line, field);
  }

  #scored(context: Context, completion: string, line: number, field: string): Example {
    const prompt = this.prompt(context, line);
    const answer = this.#answer(completion, line, field);
    if (context.type === 'text') return this.#example(prompt, answer, line, field);
    const turns = [...context.messages, { role: 'assistant', content: completion }];
    const whole = this.#template().encode(turns, { addGenerationPrompt: false });
    this.#checkLength(whole.length, line, field);
    return { tokens: Int32Array.from(whole), start: Math.min(prompt.length, whole.length - 1) };
  }

  #answer(completion: string, line: number, field: string): TokenId[] {
    const ids = this.#tokenizer.encode(completion, 'as_text');
    if (ids.length > 0) return ids;
    throw new AppError('empty_completion', `Line ${line}: the completion has no tokens.`, {
      param: `line ${line}: ${field}`,
    });
  }

  #example(prompt: readonly TokenId[], answer: readonly TokenId[], line: number, field: string): Example {
    this.#checkLength(prompt.length + answer.length, line, field);
    return { tokens: Int32Array.from([...prompt, ...answer]), start: Math.max(1, prompt.length) };
  }

  #checkLength(length: number, line: number, field: string): void {
    if (length <= this.contextLength) return;
    throw new AppError(
      'example_too_long',
      `Line ${line}: prompt and completion have ${length} tokens together, the context holds ${this.contextLength}.`,
      { param: `line ${line}: ${field}` },
    );
  }

  /** What ends an answer: the end of a turn in a chat, the end of text behind a plain prompt. */
  #endOf(context: Context): TokenId {
    return (context.type === 'messages' ? this.#template().endOfTurn() : null) ?? this.#endOfText();
  }

  #endOfText(): TokenId {
    const [id] = this.#tokenizer.endOfText;
    if (id !== undefined) return id;
    throw new AppError(
      'tokenizer_not_supported',
      'The tokenizer names no end of text, so a model cannot learn to stop; set eos_token in tokenizer_config.json.',
      { param: 'eos_token' },
    );
  }

  #template(): ChatTemplate {
    if (this.#chatTemplate !== null) return this.#chatTemplate;
    throw new AppError(
      'chat_template_failed',
      'A row has `messages` and the model has no chat template; add chat_template.jinja or give `prompt`.',
      { param: 'messages' },
    );
  }
}

/** What becomes of a row that is longer than the context. */
export type LongRows = 'refuse' | 'skip';

export interface Encoded<E> {
  readonly examples: readonly E[];
  /** Rows left out for their length. */
  readonly skipped: number;
}

/**
 * All rows of a dataset, encoded; memory holds the token ids, not the rows.
 * @throws what `encode` throws, and `dataset_empty` where nothing is left
 */
export async function encodeRows<R, E>(
  rows: AsyncIterable<R> | Iterable<R>,
  encode: (row: R) => E | readonly E[],
  longRows: LongRows,
): Promise<Encoded<E>> {
  const examples: E[] = [];
  let skipped = 0;
  for await (const row of rows) {
    try {
      examples.push(...([encode(row)].flat() as E[]));
    } catch (thrown) {
      const isLong = thrown instanceof AppError && thrown.code === 'example_too_long';
      if (!isLong || longRows === 'refuse') throw thrown;
      skipped++;
    }
  }
  if (examples.length === 0)
    throw new AppError(
      'dataset_empty',
      `No row is left to train on; ${skipped} were longer than the context.`,
    );
  return { examples, skipped };
}
