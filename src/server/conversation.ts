import { AppError } from '../core/errors.js';
import type { ChatMessage, ChatTemplate } from '../models/tokenizer/tokenizer.js';
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
