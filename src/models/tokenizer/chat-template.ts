import { Template } from '@huggingface/jinja';
import { AppError } from '../../core/errors.js';
import type { TokenId } from '../../core/units.js';
import type { ByteLevelTokenizer } from './byte-level-tokenizer.js';
import { escapePattern } from './regex.js';
import type { ChatMessage, ChatTemplate } from './tokenizer.js';

/**
 * A Jinja chat template. What users write must not become control tokens, yet templates look into it (they trim it, split it at
 * `</think>`, ask how it starts), so it cannot be replaced by a placeholder. Instead, wherever a message holds the text of a special
 * token, or ends in the beginning of one, the first character alone is masked: it becomes a private-use character that occurs in no
 * message nor in the template. No special token can then start inside a message; the template sees every other character as it is. In the
 * rendered prompt special tokens are looked for first and the masked characters are put back after.
 * A message without such text is rendered untouched, so its ids are those of the plain rendering.
 */
export class JinjaChatTemplate implements ChatTemplate {
  readonly #template: Template;
  readonly #source: string;
  readonly #tokenizer: ByteLevelTokenizer;
  /** bos_token and its like, as the template's variables. */
  readonly #variables: Readonly<Record<string, string>>;
  readonly #specialStarts: SpecialStarts;

  /** @throws AppError `chat_template_failed` if the source is not a template. */
  constructor(source: string, tokenizer: ByteLevelTokenizer, variables: Readonly<Record<string, string>>) {
    this.#template = parse(source);
    this.#source = source;
    this.#tokenizer = tokenizer;
    this.#variables = variables;
    this.#specialStarts = new SpecialStarts([...tokenizer.specialTokens.keys()]);
  }

  encode(messages: readonly ChatMessage[], options: { readonly addGenerationPrompt: boolean }): TokenId[] {
    const mask = this.#maskFor(messages);
    const prompt = this.#render(messages.map(mask.message), options);
    return this.#tokenizer.encodeMasked(prompt, mask.undo);
  }

  render(messages: readonly ChatMessage[], options: { readonly addGenerationPrompt: boolean }): string {
    const mask = this.#maskFor(messages);
    return mask.undo(this.#render(messages.map(mask.message), options));
  }

  /** The control token that the template writes right behind an assistant's text: a chat ends there, whatever eos_token says. */
  endOfTurn(): TokenId | null {
    const answer = 'answer';
    const messages = [
      { role: 'user', content: 'question' },
      { role: 'assistant', content: answer },
    ];
    try {
      const prompt = this.render(messages, { addGenerationPrompt: false });
      const behind = prompt.slice(prompt.lastIndexOf(answer) + answer.length).trimStart();
      const [first] = this.#tokenizer.encode(behind, 'parse');
      return first !== undefined && this.#tokenizer.isSpecial(first) ? first : null;
    } catch {
      // A template may refuse this dialogue; then only the files say where text ends.
      return null;
    }
  }

  #render(
    messages: readonly ChatMessage[],
    { addGenerationPrompt }: { readonly addGenerationPrompt: boolean },
  ): string {
    try {
      return this.#template.render({
        ...this.#variables,
        messages: messages.map((message) => ({ ...message })),
        add_generation_prompt: addGenerationPrompt,
      });
    } catch (thrown) {
      throw failed('refused the messages', thrown);
    }
  }

  #maskFor(messages: readonly ChatMessage[]): Mask {
    const texts = messages.flatMap(({ role, content, name }) => [role, content, name ?? '']);
    const starts = new Set(
      texts.flatMap((text) => Array.from(this.#specialStarts.in(text), (at) => text[at]!)),
    );
    if (starts.size === 0) return { message: (message) => message, undo: (text) => text };
    const masked = new Map<string, string>();
    const unmasked = new Map<string, string>();
    const taken = new Set(texts.join('') + this.#source);
    const free = privateUse.filter((character) => !taken.has(character));
    for (const character of starts) {
      const stand = free.pop();
      if (stand === undefined)
        throw failed('cannot protect the messages', 'they use all private-use characters');
      masked.set(character, stand);
      unmasked.set(stand, character);
    }
    const apply = (text: string): string => {
      const at = this.#specialStarts.in(text);
      return [...Array(text.length).keys()]
        .map((index) => (at.has(index) ? masked.get(text[index]!)! : text[index]!))
        .join('');
    };
    const undoPattern = new RegExp(`[${[...unmasked.keys()].join('')}]`, 'g');
    return {
      message: ({ role, content, name }) => ({
        role: apply(role),
        content: apply(content),
        ...(name !== undefined && { name: apply(name) }),
      }),
      undo: (text) => text.replace(undoPattern, (stand) => unmasked.get(stand) ?? stand),
    };
  }
}

interface Mask {
  message(message: ChatMessage): ChatMessage;
  undo(text: string): string;
}

const privateUse = Array.from({ length: 0x1900 }, (_, index) => String.fromCharCode(0xe000 + index));

/**
 * Finds where the text of a special token starts, and where a text ends in the beginning of one (spaces behind it aside, since templates
 * trim), which the template's next character might complete.
 */
class SpecialStarts {
  readonly #specials: readonly string[];
  readonly #pattern: RegExp | null;
  readonly #longest: number;

  constructor(specials: readonly string[]) {
    this.#specials = specials;
    this.#pattern =
      specials.length === 0 ? null : new RegExp(`(?=${specials.map(escapePattern).join('|')})`, 'g');
    this.#longest = Math.max(0, ...specials.map((special) => special.length));
  }

  /** Offsets in UTF-16 code units. */
  in(text: string): ReadonlySet<number> {
    if (this.#pattern === null) return new Set();
    const starts = new Set(Array.from(text.matchAll(this.#pattern), ({ index }) => index));
    const end = text.trimEnd().length;
    for (let index = Math.max(0, end - this.#longest); index < end; index++) {
      const rest = text.slice(index, end);
      if (this.#specials.some((special) => special.startsWith(rest))) starts.add(index);
    }
    return starts;
  }
}

function parse(source: string): Template {
  try {
    return new Template(source);
  } catch (thrown) {
    throw failed('cannot be parsed', thrown);
  }
}

function failed(what: string, thrown: unknown): AppError {
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  return new AppError('chat_template_failed', `The model's chat template ${what}: ${reason}`, {
    cause: thrown,
  });
}
