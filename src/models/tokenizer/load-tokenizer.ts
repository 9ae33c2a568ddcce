import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../../core/errors.js';
import { type TokenId, tokenId } from '../../core/units.js';
import { ByteLevelTokenizer } from './byte-level-tokenizer.js';
import { JinjaChatTemplate } from './chat-template.js';
import type { ChatTemplate, Tokenizer } from './tokenizer.js';
import { parseTokenizerFile, type TokenizerFile } from './tokenizer-file.js';

export interface LoadedTokenizer {
  readonly tokenizer: Tokenizer;
  /** null where the directory has none: chat is then refused, completions work. */
  readonly chatTemplate: ChatTemplate | null;
}

/**
 * Reads tokenizer.json and what stands beside it (tokenizer_config.json, generation_config.json, config.json, chat_template.jinja).
 * @returns null where the directory has no tokenizer of any kind: such a model takes and gives token ids only.
 * @throws AppError `tokenizer_not_supported` with the part that cannot be represented, `checkpoint_invalid` for a file that is not JSON,
 *   `chat_template_failed` for a template that cannot be parsed.
 */
export async function loadTokenizer(directory: string): Promise<LoadedTokenizer | null> {
  const names = await readdir(directory);
  if (!names.includes('tokenizer.json')) {
    refuseOtherForms(directory, names);
    return null;
  }
  const read = (name: string): Promise<Json> =>
    names.includes(name) ? readJson(directory, name) : Promise.resolve({});
  const [json, config, generation, model] = await Promise.all(
    ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json', 'config.json'].map(read),
  );
  const file = parseTokenizerFile(json);
  const variables = specialTexts(config ?? {});
  const idOf = idsByText(file);
  const endOfText = new Set<TokenId>();
  const eos = idOf(variables.eos_token);
  if (eos !== null) endOfText.add(eos);
  for (const id of [...idsIn(generation?.eos_token_id), ...idsIn(model?.eos_token_id)]) endOfText.add(id);
  const tokenizer = new ByteLevelTokenizer(file, {
    beginOfText: idOf(variables.bos_token),
    endOfText,
    modelVocabularySize: Number(model?.vocab_size ?? 0),
  });
  const source = names.includes('chat_template.jinja')
    ? await readFile(join(directory, 'chat_template.jinja'), 'utf8')
    : templateIn(config?.chat_template);
  if (source === null) return { tokenizer, chatTemplate: null };
  const chatTemplate = new JinjaChatTemplate(source, tokenizer, variables);
  const endOfTurn = chatTemplate.endOfTurn();
  if (endOfTurn !== null) endOfText.add(endOfTurn);
  return { tokenizer, chatTemplate };
}

type Json = Readonly<Record<string, unknown>>;

function refuseOtherForms(directory: string, names: readonly string[]): void {
  const other = names.find((name) =>
    ['tokenizer.model', 'vocab.json', 'merges.txt', 'vocab.txt'].includes(name),
  );
  if (other === undefined) return;
  throw new AppError(
    'tokenizer_not_supported',
    `${directory} has ${other} but no tokenizer.json; transformers writes one: ` +
      'AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(DIR).',
    { param: other },
  );
}

async function readJson(directory: string, name: string): Promise<Json> {
  const path = join(directory, name);
  const text = await readFile(path, 'utf8');
  try {
    return JSON.parse(text) as Json;
  } catch (thrown) {
    throw new AppError('checkpoint_invalid', `${path} is not JSON.`, { param: name, cause: thrown });
  }
}

/** bos_token, eos_token, ... of tokenizer_config.json; each a string or an object with its content. */
function specialTexts(config: Json): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const name of [
    'bos_token',
    'eos_token',
    'unk_token',
    'pad_token',
    'sep_token',
    'cls_token',
    'mask_token',
  ]) {
    const value = config[name];
    const text = typeof value === 'object' && value !== null ? (value as Json).content : value;
    if (typeof text === 'string') texts[name] = text;
  }
  return texts;
}

function idsByText(file: TokenizerFile): (text: string | undefined) => TokenId | null {
  const added = new Map(file.addedTokens.map(({ content, id }) => [content, id]));
  return (text) => {
    if (text === undefined) return null;
    const id = added.get(text) ?? file.vocabulary[text];
    return id === undefined ? null : tokenId(id);
  };
}

const idsIn = (value: unknown): TokenId[] =>
  [value].flat().flatMap((id) => (Number.isInteger(id) ? [tokenId(id as number)] : []));

/** A template, or a list of named ones, of which the one for plain chat is taken. */
function templateIn(value: unknown): string | null {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return null;
  const named = value as readonly { readonly name?: unknown; readonly template?: unknown }[];
  const chosen = named.find(({ name }) => name === 'default') ?? (named.length === 1 ? named[0] : undefined);
  return typeof chosen?.template === 'string' ? chosen.template : null;
}
