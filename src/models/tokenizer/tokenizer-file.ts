import { AppError } from '../../core/errors.js';
import { type TokenId, tokenId } from '../../core/units.js';
import type { AddedToken } from './added-tokens.js';
import type { PreTokenizerStage } from './pre-tokenizer.js';
import { escapePattern, toJavaScriptPattern } from './regex.js';

/** A byte-level BPE tokenizer.json, checked: everything in it is something this tokenizer does exactly. */
export interface TokenizerFile {
  readonly vocabulary: Readonly<Record<string, number>>;
  /** Left and right part, first merge first. */
  readonly merges: readonly (readonly [string, string])[];
  /** A piece that is in the vocabulary as a whole is that token, whatever the merges make of it. */
  readonly ignoreMerges: boolean;
  readonly addedTokens: readonly AddedToken[];
  readonly normalForms: readonly NormalForm[];
  readonly stages: readonly PreTokenizerStage[];
  /** What the post-processor puts before and after a whole prompt. */
  readonly prefix: readonly TokenId[];
  readonly suffix: readonly TokenId[];
}

export type NormalForm = 'NFC' | 'NFD' | 'NFKC' | 'NFKD';

type Json = Readonly<Record<string, unknown>>;

/** @throws AppError `tokenizer_not_supported`, naming the part of the file. */
export function parseTokenizerFile(json: unknown): TokenizerFile {
  const file = asObject(json, 'the file');
  const model = asObject(file.model, 'model');
  refuseOtherModels(model);
  const { stages, isByteLevel } = parsePreTokenizer(file.pre_tokenizer);
  const decoder = asObject(file.decoder ?? {}, 'decoder');
  if (!isByteLevel || !mentionsByteLevel(decoder)) {
    throw unsupported(
      'pre_tokenizer',
      'it is not byte-level (no ByteLevel step in pre_tokenizer and decoder)',
    );
  }
  return {
    vocabulary: asObject(model.vocab, 'model.vocab') as Readonly<Record<string, number>>,
    merges: parseMerges(model.merges),
    ignoreMerges: model.ignore_merges === true,
    addedTokens: asList(file.added_tokens ?? [], 'added_tokens').map(parseAddedToken),
    normalForms: parseNormalizer(file.normalizer),
    stages,
    ...parsePostProcessor(file.post_processor),
  };
}

/** `field` is a dotted path in tokenizer.json. */
export const unsupported = (field: string, reason: string): AppError =>
  new AppError(
    'tokenizer_not_supported',
    `tokenizer.json cannot be represented exactly: ${field}: ${reason}.`,
    {
      param: field,
    },
  );

function refuseOtherModels(model: Json): void {
  const type = model.type ?? (model.merges === undefined ? 'unknown' : 'BPE');
  if (type !== 'BPE') throw unsupported('model.type', `${String(type)} is not byte-level BPE`);
  if (model.byte_fallback === true)
    throw unsupported('model.byte_fallback', 'it is a SentencePiece-style BPE');
  for (const field of ['continuing_subword_prefix', 'end_of_word_suffix']) {
    if ((model[field] ?? '') !== '') throw unsupported(`model.${field}`, 'subword marks are not byte-level');
  }
  if (Number(model.dropout ?? 0) > 0) throw unsupported('model.dropout', 'merges would be random');
}

function parseMerges(value: unknown): (readonly [string, string])[] {
  return asList(value, 'model.merges').map((merge, index) => {
    const pair = typeof merge === 'string' ? merge.split(' ') : asList(merge, `model.merges.${index}`);
    const [left, right] = pair;
    if (pair.length !== 2 || typeof left !== 'string' || typeof right !== 'string') {
      throw unsupported(`model.merges.${index}`, 'a merge has two parts');
    }
    return [left, right] as const;
  });
}

function parseAddedToken(value: unknown, index: number): AddedToken {
  const token = asObject(value, `added_tokens.${index}`);
  const { id, content } = token;
  if (!Number.isInteger(id) || typeof content !== 'string' || content === '') {
    throw unsupported(`added_tokens.${index}`, 'an added token has an id and a content');
  }
  return {
    id: tokenId(id as number),
    content,
    special: token.special === true,
    normalized: token.normalized === true,
    singleWord: token.single_word === true,
    leftStrip: token.lstrip === true,
    rightStrip: token.rstrip === true,
  };
}

function parseNormalizer(value: unknown): NormalForm[] {
  if (value === null || value === undefined) return [];
  const normalizer = asObject(value, 'normalizer');
  const type = normalizer.type;
  if (type === 'NFC' || type === 'NFD' || type === 'NFKC' || type === 'NFKD') return [type];
  if (type === 'Sequence')
    return asList(normalizer.normalizers, 'normalizer.normalizers').flatMap(parseNormalizer);
  throw unsupported('normalizer', `${String(type)} is not a Unicode normal form`);
}

/** The pattern of GPT-2, which ByteLevel applies by itself unless `use_regex` is false. */
const GPT2_PATTERN = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

function parsePreTokenizer(value: unknown): { stages: PreTokenizerStage[]; isByteLevel: boolean } {
  const step = asObject(value ?? {}, 'pre_tokenizer');
  const type = step.type;
  if (type === 'Sequence') {
    const parts = asList(step.pretokenizers, 'pre_tokenizer.pretokenizers').map(parsePreTokenizer);
    const last = parts.at(-1);
    if (parts.slice(0, -1).some((part) => part.isByteLevel)) {
      throw unsupported('pre_tokenizer', 'ByteLevel is followed by another step');
    }
    return { stages: parts.flatMap((part) => part.stages), isByteLevel: last?.isByteLevel ?? false };
  }
  if (type === 'ByteLevel') {
    const stages: PreTokenizerStage[] = step.add_prefix_space === false ? [] : [{ type: 'prefix_space' }];
    if (step.use_regex !== false) stages.push(splitBy(toJavaScriptPattern(GPT2_PATTERN)));
    return { stages, isByteLevel: true };
  }
  if (type === 'Digits') {
    const pattern = step.individual_digits === true ? /\p{N}/gu : /\p{N}+/gu;
    return { stages: [splitBy(pattern)], isByteLevel: false };
  }
  if (type === 'Split') return { stages: [parseSplit(step)], isByteLevel: false };
  throw unsupported('pre_tokenizer', `the step ${String(type)} is not known`);
}

const splitBy = (pattern: RegExp): PreTokenizerStage => ({ type: 'split', pattern, keep: 'both' });

function parseSplit(step: Json): PreTokenizerStage {
  const written = asObject(step.pattern, 'pre_tokenizer.pattern');
  const { Regex: regex, String: text } = written;
  const behavior = step.behavior;
  if (behavior !== 'Isolated' && behavior !== 'Removed') {
    throw unsupported('pre_tokenizer.behavior', `${String(behavior)} is not Isolated or Removed`);
  }
  if (typeof regex !== 'string' && typeof text !== 'string') {
    throw unsupported('pre_tokenizer.pattern', 'it is neither a Regex nor a String');
  }
  const pattern =
    typeof regex === 'string' ? toJavaScriptPattern(regex) : new RegExp(escapePattern(String(text)), 'gu');
  if (behavior === 'Isolated') return { type: 'split', pattern, keep: 'both' };
  return { type: 'split', pattern, keep: step.invert === true ? 'matches' : 'gaps' };
}

interface Surroundings {
  readonly prefix: readonly TokenId[];
  readonly suffix: readonly TokenId[];
}

function parsePostProcessor(value: unknown): Surroundings {
  const none = { prefix: [], suffix: [] };
  if (value === null || value === undefined) return none;
  const processor = asObject(value, 'post_processor');
  const type = processor.type;
  // ByteLevel only moves offsets, which nobody reads here.
  if (type === 'ByteLevel') return none;
  if (type === 'Sequence') {
    return asList(processor.processors, 'post_processor.processors')
      .map(parsePostProcessor)
      .reduce((inner, outer) => ({
        prefix: [...outer.prefix, ...inner.prefix],
        suffix: [...inner.suffix, ...outer.suffix],
      }));
  }
  if (type !== 'TemplateProcessing') throw unsupported('post_processor', `${String(type)} is not known`);
  return parseTemplate(processor);
}

function parseTemplate(processor: Json): Surroundings {
  const known = asObject(processor.special_tokens ?? {}, 'post_processor.special_tokens');
  const single = asList(processor.single, 'post_processor.single').map((part) => asObject(part, 'single'));
  const middle = single.findIndex((part) => part.Sequence !== undefined);
  const idsOf = (part: Json): TokenId[] => {
    const name = asObject(part.SpecialToken, 'post_processor.single').id;
    const { ids } = asObject(known[String(name)], 'post_processor.special_tokens');
    return asList(ids, 'post_processor.special_tokens').map((id) => tokenId(Number(id)));
  };
  if (middle < 0) throw unsupported('post_processor.single', 'it leaves the text out');
  return {
    prefix: single.slice(0, middle).flatMap(idsOf),
    suffix: single.slice(middle + 1).flatMap(idsOf),
  };
}

function mentionsByteLevel(step: Json): boolean {
  if (step.type === 'ByteLevel') return true;
  if (step.type !== 'Sequence') return false;
  const decoders = asList(step.decoders, 'decoder.decoders').map((part) => asObject(part, 'decoder'));
  return decoders.length === 1 && decoders.every(mentionsByteLevel);
}

function asObject(value: unknown, field: string): Json {
  if (typeof value !== 'object' || value === null) throw unsupported(field, 'it is missing or not an object');
  return value as Json;
}

function asList(value: unknown, field: string): readonly unknown[] {
  if (!Array.isArray(value)) throw unsupported(field, 'it is missing or not a list');
  return value;
}
