import { AppError } from '../core/errors.js';
import type { TokenId } from '../core/units.js';
import type { ChatMessage, ChatTemplate, Tokenizer } from '../models/tokenizer/tokenizer.js';
import { assertMayFit } from './context-limit.js';
import type { Schemas } from './contract.js';

/** Messages of a body as a model's chat template takes them. */

export const textOf = (content: Schemas['MessageContent']): string =>
  typeof content === 'string' ? content : content.map(({ text }) => text).join('');

export const messagesOf = (messages: readonly Schemas['ChatMessage'][]): ChatMessage[] =>
  messages.map(({ role, content, name }) => ({
    role: role === 'developer' ? 'system' : role,
    content: textOf(content),
    ...(name !== undefined && { name }),
  }));

/** Throws `chat_template_failed` where the checkpoint has no template. */
export function templateOf({
  id,
  chatTemplate,
}: {
  readonly id: string;
  readonly chatTemplate: ChatTemplate | null;
}): ChatTemplate {
  if (chatTemplate !== null) return chatTemplate;
  throw new AppError(
    'chat_template_failed',
    `The model '${id}' has no chat template; send its prompt as text or token ids to /v1/completions`,
    { param: 'model' },
  );
}

interface Conversant {
  readonly id: string;
  readonly contextLength: number;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
}

/**
 * Messages as a prompt of the model that is still to be checked against its context, but is not beyond it by far.
 * @param param The field that the messages came in.
 * @throws AppError `chat_template_failed`, `context_length_exceeded`.
 */
export function promptOf(
  model: Conversant,
  messages: readonly ChatMessage[],
  options: Parameters<ChatTemplate['encode']>[1],
  param = 'messages',
): TokenId[] {
  const template = templateOf(model);
  // Templates trim; otherwise what is in the messages is in the prompt.
  assertMayFit(messages.map(({ content }) => content.trim()).join(''), model, param);
  return template.encode(messages, options);
}
