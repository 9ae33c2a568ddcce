/** A Hugging Face directory's weights in an arena: float32 masters under the checkpoint's own names. */
import { AppError } from '../core/errors.js';
import type { Rng } from '../core/rng.js';
import { Checkpoint } from '../models/checkpoint/checkpoint.js';
import type { StoredTensor } from '../models/checkpoint/safetensors.js';
import { GraphBuilder } from '../models/graph/builder.js';
import type { ModelConfig } from '../models/transformer/model-config.js';
import { decode, decoderAxes } from './differentiable-decoder.js';
import { languageHead, pick, scalarHead } from './loss-heads.js';
import {
  type ArenaEntry,
  ArenaLayout,
  decaysIfMatrix,
  type ParameterArena,
} from './optim/parameter-arena.js';

/** What stands on the trunk: a language head, a reward model's score, a value function, or several. */
export type HeadName = 'language' | 'score' | 'value';

/** The layout of a decoder with these heads: that of every graph which uses all of its parameters, and a frame for those that use some. */
export function layoutOf(config: ModelConfig, heads: readonly HeadName[]): ArenaLayout {
  const g = new GraphBuilder('layout', decoderAxes(config));
  const tokens = g.input('tokens', 'int64', ['rows', 'time']);
  const hidden = pick(decode(g, config, tokens, { maxTime: 1 }), g.input('picked', 'int64', ['picked']));
  for (const head of heads) {
    if (head === 'language') languageHead(g, config, hidden);
    else scalarHead(g, hidden, head);
  }
  return new ArenaLayout(g.parameters, decaysIfMatrix);
}

/** A parameter that the checkpoint lacks: its name there, or numbers to start from. */
export type Substitute =
  | { readonly type: 'stored'; readonly name: string }
  | { readonly type: 'fresh'; readonly values: Float32Array };

/**
 * Fills an arena from a checkpoint of float32, float16 or bfloat16 tensors.
 * @param substitute asked for each parameter that the checkpoint lacks; null: it is missing
 * @throws AppError `checkpoint_invalid` for a tensor that is absent, has another shape, or holds a NaN or an infinity
 */
export function loadWeights(
  directory: string,
  arena: ParameterArena,
  substitute: (entry: ArenaEntry) => Substitute | null = () => null,
): void {
  using checkpoint = Checkpoint.open(directory);
  for (const entry of arena.layout.entries) {
    const values = new Float32Array(entry.length);
    const stored = storedName(checkpoint, entry.name);
    const instead = stored === null ? substitute(entry) : null;
    if (instead?.type === 'fresh') values.set(instead.values);
    else
      checkpoint.readFloats(requireTensor(checkpoint, instead?.name ?? stored ?? entry.name, entry), values);
    arena.view(entry.name).write(values);
  }
}

/** A checkpoint saved from the trunk alone (gpt2's on the hub) has no prefix. */
function storedName(checkpoint: Checkpoint, name: string): string | null {
  return (
    [name, name.replace(/^(model|transformer)\./, '')].find((form) => checkpoint.tensors.has(form)) ?? null
  );
}

/** A scalar head may be stored with or without its axis of 1. */
function requireTensor(checkpoint: Checkpoint, name: string, { shape, length }: ArenaEntry): StoredTensor {
  const found = checkpoint.tensors.get(name)?.shape;
  const isSameRow = shape[0] === 1 && found?.length === 1 && found[0] === length;
  return checkpoint.require(name, isSameRow ? found : shape);
}

/**
 * A new scalar head on a width of d: weights from N(0, 1 / sqrt(d + 1)) (the standard deviation, as Stiennon et al. 2020 and Ziegler et al.
 * 2019 have it in their code), bias 0.
 */
export const freshScalarHead =
  (head: 'score' | 'value', rng: Rng) =>
  ({ name, length }: ArenaEntry): Substitute | null => {
    if (name === `${head}.bias`) return { type: 'fresh', values: new Float32Array(length) };
    if (name !== `${head}.weight`) return null;
    const deviation = 1 / Math.sqrt(length + 1);
    return { type: 'fresh', values: Float32Array.from({ length }, () => deviation * rng.normal()) };
  };

/** A value function that starts as the reward model: its head is the score's. */
export const valueHeadFromScore = ({ name }: ArenaEntry): Substitute | null => {
  if (!name.startsWith('value.')) return null;
  return { type: 'stored', name: name.replace('value.', 'score.') };
};

/** Throws `tokenizer_mismatch` where the tokenizer makes ids that the embedding table does not hold. */
export function checkVocabulary(tokenizer: { readonly vocabularySize: number }, config: ModelConfig): void {
  if (tokenizer.vocabularySize <= config.vocabulary) return;
  throw new AppError(
    'tokenizer_mismatch',
    `The tokenizer makes ids up to ${tokenizer.vocabularySize - 1}, the model's embedding table has ${config.vocabulary} rows; use the tokenizer that the model was trained with.`,
    { param: 'tokenizer.json' },
  );
}
