/** Files of a checkpoint in Hugging Face layout that instructd reads; nothing else is downloaded or copied. */

/** Beside the weights; all but config.json may be absent. */
export const textFiles: ReadonlySet<string> = new Set([
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'chat_template.json',
]);

/** All weights in one file. */
export const weightsFile = 'model.safetensors';
/** Names the shard of each tensor. */
export const weightsIndexFile = 'model.safetensors.index.json';
