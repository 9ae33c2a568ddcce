import { randomBytes } from 'node:crypto';
import { AppError } from '../core/errors.js';
import { type TokenId, tokenId } from '../core/units.js';
import type { SamplingOptions } from '../models/engine/engine.js';
import type { Tokenizer } from '../models/tokenizer/tokenizer.js';
import type { Schemas } from './contract.js';

/** Sampling fields of a body as the engine's options. What depends on the model is checked here: ids against its vocabulary. */

export function samplingOf(body: Schemas['Sampling'], tokenizer: Tokenizer): SamplingOptions {
  return {
    temperature: body.temperature,
    topP: body.top_p,
    topK: Math.max(0, body.top_k),
    minP: body.min_p,
    presencePenalty: body.presence_penalty,
    frequencyPenalty: body.frequency_penalty,
    repetitionPenalty: body.repetition_penalty,
    logitBias: logitBiasOf(body.logit_bias ?? {}, tokenizer),
    seed: body.seed === undefined ? randomBytes(8).readBigInt64LE() : BigInt(body.seed),
    minTokens: body.min_tokens,
  };
}

export const stopsOf = ({ stop }: Schemas['Sampling']): readonly string[] =>
  typeof stop === 'string' ? [stop] : (stop ?? []);

function logitBiasOf(
  bias: Readonly<Record<string, number>>,
  tokenizer: Tokenizer,
): ReadonlyMap<TokenId, number> {
  return new Map(
    Object.entries(bias).map(([id, value]) => [knownToken(Number(id), tokenizer, `logit_bias.${id}`), value]),
  );
}

/** Throws `invalid_value` for an id outside the vocabulary. */
export function knownToken(id: number, { vocabularySize }: Tokenizer, param: string): TokenId {
  if (id < vocabularySize) return tokenId(id);
  throw new AppError(
    'invalid_value',
    `'${param}' is token ${id}, but the model's vocabulary ends at ${vocabularySize - 1}`,
    { param },
  );
}

export const knownTokens = (ids: readonly number[], tokenizer: Tokenizer, param: string): TokenId[] =>
  ids.map((id, index) => knownToken(id, tokenizer, `${param}.${index}`));
