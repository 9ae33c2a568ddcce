import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { tokenId } from '../../../../src/core/units.js';
import { type LoadedTokenizer, loadTokenizer } from '../../../../src/models/tokenizer/load-tokenizer.js';
import type { ChatMessage, ChatTemplate } from '../../../../src/models/tokenizer/tokenizer.js';
import { sharedPath, skipWithoutShared } from '../../../shared.js';

interface Reference {
  readonly tokenize: readonly { readonly text: string; readonly ids: readonly number[] }[];
  readonly chat: readonly {
    readonly messages: readonly ChatMessage[];
    readonly prompt: string;
    readonly prompt_ids: readonly number[];
  }[];
}

const directory = sharedPath('models', 'smollm2-135m-instruct');
const skip = skipWithoutShared;
const reference = (): Reference =>
  JSON.parse(readFileSync(`${directory}/reference.json`, 'utf8')) as Reference;

let loaded: Promise<LoadedTokenizer & { readonly chatTemplate: ChatTemplate }> | undefined;
const smollm2 = () => {
  loaded ??= loadTokenizer(directory).then((found) => {
    assert.ok(found !== null && found.chatTemplate !== null);
    return { tokenizer: found.tokenizer, chatTemplate: found.chatTemplate };
  });
  return loaded;
};
const generation = { addGenerationPrompt: true };

test('SmolLM2 texts become the ids that transformers gives, and come back', { skip }, async () => {
  const { tokenizer } = await smollm2();
  for (const { text, ids } of reference().tokenize) {
    assert.deepEqual(tokenizer.encode(text, 'parse'), ids, JSON.stringify(text));
    assert.equal(tokenizer.decode(ids.map(tokenId), 'keep'), text);
  }
});

test('SmolLM2 chats become the prompts and ids that transformers gives', { skip }, async () => {
  const { chatTemplate } = await smollm2();
  for (const { messages, prompt, prompt_ids } of reference().chat) {
    assert.equal(chatTemplate.render(messages, generation), prompt);
    assert.deepEqual(chatTemplate.encode(messages, generation), prompt_ids);
  }
});

test('SmolLM2 ends at <|im_end|> and begins at <|im_start|>', { skip }, async () => {
  const { tokenizer } = await smollm2();
  assert.equal(tokenizer.beginOfText, 1);
  assert.deepEqual([...tokenizer.endOfText], [2]);
});

test('bytes that the vocabulary lacks are dropped, as in the reference', { skip }, async () => {
  const { tokenizer } = await smollm2();
  // By the Rust tokenizers 0.23: no token for the byte 0x04, nor for the first byte of U+40000.
  assert.deepEqual(tokenizer.encode('a\u0004b', 'parse'), [81, 82]);
  assert.deepEqual(tokenizer.encode('\u{40000}', 'parse'), [218, 218, 218]);
});
