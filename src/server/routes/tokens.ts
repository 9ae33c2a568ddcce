import { AppError } from '../../core/errors.js';
import type { Handlers, Schemas } from '../contract.js';
import { messagesOf, templateOf } from '../conversation.js';
import type { ServerParts } from '../parts.js';
import { knownTokens } from '../sampling.js';

export function tokenRoutes({ pool }: ServerParts): Pick<Handlers, 'tokenize' | 'detokenize'> {
  const modelOf = async (id: string) =>
    (await pool.get(id)).kind === 'reward' ? pool.reward(id) : pool.text(id);
  return {
    async tokenize({ body }) {
      const model = await modelOf(body.model);
      const tokens = tokensOf(body, model);
      return { tokens, count: tokens.length, max_model_len: model.contextLength };
    },
    async detokenize({ body }) {
      const { tokenizer } = await modelOf(body.model);
      return { text: tokenizer.decode(knownTokens(body.tokens, tokenizer, 'tokens'), 'keep') };
    },
  };
}

type Tokenizing = Parameters<typeof templateOf>[0] &
  Pick<Awaited<ReturnType<ServerParts['pool']['text']>>, 'tokenizer'>;

function tokensOf(body: Schemas['TokenizeRequest'], model: Tokenizing): number[] {
  if ((body.text === undefined) === (body.messages === undefined))
    throw new AppError('invalid_value', "Send either 'text' or 'messages'", { param: 'text' });
  if (body.messages !== undefined)
    return templateOf(model).encode(messagesOf(body.messages), {
      addGenerationPrompt: body.add_generation_prompt,
    });
  const ids = model.tokenizer.encode(body.text!, body.parse_special ? 'parse' : 'as_text');
  return body.add_special_tokens ? model.tokenizer.withSpecialTokens(ids) : ids;
}
