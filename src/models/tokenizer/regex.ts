import { AppError } from '../../core/errors.js';

/**
 * tokenizer.json writes its patterns for Oniguruma; this gives the JavaScript pattern that matches the same text, or refuses it.
 * What differs: `\s` is Unicode White_Space there (with U+0085, without U+FEFF), `\d` and `\w` are Unicode classes, `.` stops at \n
 * only, `(?i:...)` is a group, and `[` and `&&` inside a class are set operations.
 */
export function toJavaScriptPattern(source: string): RegExp {
  try {
    return new RegExp(new Translator(source).translate(), 'gu');
  } catch (thrown) {
    if (thrown instanceof AppError) throw thrown;
    throw refuse(source, thrown instanceof Error ? thrown.message : String(thrown));
  }
}

export const escapePattern = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');

const refuse = (source: string, reason: string): AppError =>
  new AppError(
    'tokenizer_not_supported',
    `The pre-tokenizer's pattern ${JSON.stringify(source)} has no exact JavaScript form: ${reason}.`,
    { param: 'tokenizer.json: pre_tokenizer' },
  );

const outsideClass: Readonly<Record<string, string>> = {
  s: '\\p{White_Space}',
  S: '\\P{White_Space}',
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  w: '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]',
  W: '[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]',
};
const insideClass: Readonly<Record<string, string>> = {
  s: '\\p{White_Space}',
  S: '\\P{White_Space}',
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  w: '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}',
};
const controls = new Set(['r', 'n', 't', 'f', 'v']);
/** Letters outside ASCII that simple case folding maps onto an ASCII letter. */
const foldedOnto: Readonly<Record<string, string>> = { s: 'ſ', k: '\u212a' };

class Translator {
  readonly #source: string;
  #at = 0;
  /** Case-insensitivity of the open groups, innermost last. */
  readonly #ignoreCase: boolean[] = [false];

  constructor(source: string) {
    this.#source = source;
  }

  translate(): string {
    let out = '';
    if (this.#take('(?i)')) this.#ignoreCase[0] = true;
    while (this.#at < this.#source.length) out += this.#term();
    return out;
  }

  #term(): string {
    const character = this.#character();
    if (character === '\\') return this.#escape(outsideClass);
    if (character === '[') return this.#class();
    if (character === '(') return this.#group();
    if (character === ')') {
      this.#ignoreCase.pop();
      return ')';
    }
    if (character === '.') return '[^\\n]';
    if (character === '^' || character === '$') throw refuse(this.#source, `the anchor ${character}`);
    if ('*+?{'.includes(character)) return this.#quantifier(character);
    if (character === '|') return character;
    return this.#literal(character, (variants) => `[${variants}]`);
  }

  /** In the syntax of the file `*+`, `++` and `?+` are possessive, which JavaScript lacks. */
  #quantifier(first: string): string {
    if (first === '{') {
      const end = this.#source.indexOf('}', this.#at);
      const bounds = this.#source.slice(this.#at, end);
      if (!/^\d+(,\d*)?$/.test(bounds)) throw refuse(this.#source, `the quantifier {${bounds}}`);
      this.#at = end + 1;
      return `{${bounds}}`;
    }
    if (this.#take('+')) throw refuse(this.#source, 'a possessive quantifier');
    return this.#take('?') ? `${first}?` : first;
  }

  #group(): string {
    const ignoreCase = this.#ignoreCase.at(-1) ?? false;
    if (this.#take('?i:')) {
      this.#ignoreCase.push(true);
      return '(?:';
    }
    this.#ignoreCase.push(ignoreCase);
    for (const opening of ['?:', '?=', '?!', '?<=', '?<!']) if (this.#take(opening)) return `(${opening}`;
    if (this.#source[this.#at] === '?')
      throw refuse(this.#source, 'a group that is neither plain nor a look-around');
    return '(?:';
  }

  #class(): string {
    let out = this.#take('^') ? '[^' : '[';
    for (;;) {
      if (this.#at >= this.#source.length) throw refuse(this.#source, 'a class without end');
      const character = this.#character();
      if (character === ']') return `${out}]`;
      if (character === '[' || (character === '&' && this.#source[this.#at] === '&')) {
        throw refuse(this.#source, 'set operations in a class');
      }
      if (character === '\\') {
        out += this.#escape(insideClass);
        continue;
      }
      const isRange = character === '-' || this.#source[this.#at] === '-';
      if (isRange && this.#ignoreCase.at(-1)) throw refuse(this.#source, 'a case-insensitive range');
      out += isRange && character === '-' ? '-' : this.#literal(character, (variants) => variants);
    }
  }

  #escape(classes: Readonly<Record<string, string>>): string {
    const character = this.#character();
    const unicodeClass = classes[character];
    if (unicodeClass !== undefined) return unicodeClass;
    if (controls.has(character)) return `\\${character}`;
    if (character === 'p' || character === 'P') return this.#property(character);
    if (character === 'x' || character === 'u') return this.#codePoint();
    if (/[A-Za-z0-9]/.test(character)) throw refuse(this.#source, `the escape \\${character}`);
    return /[\\^$.*+?()[\]{}|/-]/.test(character) ? this.#escaped(character, classes) : character;
  }

  /** In Unicode mode `\-` may stand in a class only. */
  #escaped(character: string, classes: Readonly<Record<string, string>>): string {
    return character === '-' && classes === outsideClass ? '-' : `\\${character}`;
  }

  #property(letter: string): string {
    const match = /^\{(\^?)([A-Za-z_=]+)\}/.exec(this.#source.slice(this.#at));
    if (match === null) throw refuse(this.#source, 'a property without a name');
    this.#at += match[0].length;
    const negated = (letter === 'P') !== (match[1] === '^');
    const name = match[2] ?? '';
    if (this.#ignoreCase.at(-1) && /^L[utl]$/.test(name)) {
      throw refuse(this.#source, 'a case-insensitive case property');
    }
    const property = isProperty(name) ? name : `Script=${name}`;
    return `\\${negated ? 'P' : 'p'}{${property}}`;
  }

  #codePoint(): string {
    const match = /^(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2,4}))/.exec(this.#source.slice(this.#at));
    if (match === null) throw refuse(this.#source, 'a code point without digits');
    const isByte = this.#source[this.#at - 1] === 'x' && match[2] !== undefined;
    const digits = match[1] ?? (isByte ? match[2]!.slice(0, 2) : match[2]!);
    this.#at += match[1] === undefined ? digits.length : match[0].length;
    return `\\u{${digits}}`;
  }

  #literal(character: string, group: (variants: string) => string): string {
    if (!this.#ignoreCase.at(-1) || character.toLowerCase() === character.toUpperCase()) {
      return escapePattern(character);
    }
    if (!/[A-Za-z]/.test(character)) throw refuse(this.#source, 'a case-insensitive letter outside ASCII');
    const lower = character.toLowerCase();
    return group(lower + character.toUpperCase() + (foldedOnto[lower] ?? ''));
  }

  #character(): string {
    const character = String.fromCodePoint(this.#source.codePointAt(this.#at) ?? 0);
    this.#at += character.length;
    return character;
  }

  #take(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }
}

function isProperty(name: string): boolean {
  try {
    new RegExp(`\\p{${name}}`, 'u');
    return true;
  } catch {
    return false;
  }
}
