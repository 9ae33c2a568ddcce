import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Rng } from '../src/core/rng.js';
import { SafetensorsWriter } from '../src/models/checkpoint/safetensors-writer.js';

/** A llama of a few thousand random weights with a tokenizer of single bytes: small enough to be written, imported and run in a test. */

const HIDDEN = 64;
const MLP = 96;
const LAYERS = 2;
const HEADS = 4;
/** The 256 bytes, and the end of text. */
const VOCABULARY = 257;

export interface TinyOptions {
  readonly head?: 'language' | 'reward';
  readonly seed?: number;
  readonly contextLength?: number;
}

/** Writes the checkpoint in Hugging Face layout; the directory is made. */
export function writeTinyCheckpoint(directory: string, options: TinyOptions = {}): string {
  const { head = 'language', seed = 1, contextLength = 256 } = options;
  mkdirSync(directory, { recursive: true });
  const json = (name: string, value: unknown) => writeFileSync(join(directory, name), JSON.stringify(value));
  json('config.json', {
    model_type: 'llama',
    architectures: [head === 'language' ? 'LlamaForCausalLM' : 'LlamaForSequenceClassification'],
    ...(head === 'reward' && { num_labels: 1 }),
    hidden_size: HIDDEN,
    intermediate_size: MLP,
    num_hidden_layers: LAYERS,
    num_attention_heads: HEADS,
    num_key_value_heads: HEADS,
    vocab_size: VOCABULARY,
    max_position_embeddings: contextLength,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    tie_word_embeddings: true,
    bos_token_id: 256,
    eos_token_id: 256,
  });
  json('tokenizer.json', tokenizer());
  json('tokenizer_config.json', { eos_token: '<|end|>', bos_token: '<|end|>' });
  writeFileSync(
    join(directory, 'chat_template.jinja'),
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}assistant:",
  );
  writeWeights(join(directory, 'model.safetensors'), new Rng(seed), head);
  return directory;
}

/** GPT-2's printable stand-ins for the 256 bytes. */
function byteCharacters(): string[] {
  const isPrintable = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

const tokenizer = () => ({
  version: '1.0',
  added_tokens: [
    {
      id: 256,
      content: '<|end|>',
      special: true,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    },
  ],
  normalizer: null,
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  post_processor: null,
  decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
  model: {
    type: 'BPE',
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    vocab: Object.fromEntries(byteCharacters().map((character, byte) => [character, byte])),
    merges: [],
  },
});

function writeWeights(path: string, rng: Rng, head: 'language' | 'reward'): void {
  const shapes: [name: string, shape: number[]][] = [['model.embed_tokens.weight', [VOCABULARY, HIDDEN]]];
  for (let layer = 0; layer < LAYERS; layer++) {
    const at = `model.layers.${layer}`;
    shapes.push(
      [`${at}.input_layernorm.weight`, [HIDDEN]],
      [`${at}.post_attention_layernorm.weight`, [HIDDEN]],
    );
    for (const name of ['q_proj', 'k_proj', 'v_proj', 'o_proj'])
      shapes.push([`${at}.self_attn.${name}.weight`, [HIDDEN, HIDDEN]]);
    shapes.push([`${at}.mlp.gate_proj.weight`, [MLP, HIDDEN]], [`${at}.mlp.up_proj.weight`, [MLP, HIDDEN]]);
    shapes.push([`${at}.mlp.down_proj.weight`, [HIDDEN, MLP]]);
  }
  shapes.push(['model.norm.weight', [HIDDEN]]);
  if (head === 'reward') shapes.push(['score.weight', [1, HIDDEN]]);
  using writer = new SafetensorsWriter(
    path,
    shapes.map(([name, shape]) => ({ name, type: 'F32', shape })),
  );
  for (const [name, shape] of shapes) {
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    for (let i = 0; i < values.length; i++) values[i] = name.includes('norm') ? 1 : rng.normal() * 0.3;
    writer.write(name, values, 0);
  }
  writer.commit();
}
