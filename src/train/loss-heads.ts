/** From hidden states to what losses are made of. Only positions that carry loss go through a head. */
import type { GraphBuilder } from '../models/graph/builder.js';
import type { Axes, Value } from '../models/graph/ir.js';
import * as op from '../models/graph/ops.js';
import type { ModelConfig } from '../models/transformer/model-config.js';
import {
  embedding,
  type Float,
  type Hidden,
  type PickedHidden,
  type PickedIndices,
  pickRows,
} from './differentiable-decoder.js';

export type { Float, PickedIndices } from './differentiable-decoder.js';

/** One number for each picked position. */
export type Picked = Value<'float32', readonly ['picked']>;
/** [rows, time, model] -> [picked, model] */
export const pick = (hidden: Hidden, picked: PickedIndices): PickedHidden =>
  pickRows(hidden as Float, picked) as PickedHidden;

/** Log-probabilities over the vocabulary at picked positions, logits divided by the temperature: float32 [picked, vocabulary]. */
export function languageHead(g: GraphBuilder, config: ModelConfig, x: PickedHidden, temperature = 1): Float {
  const table = config.tiedHead
    ? embedding(g, config)
    : g.parameter('lm_head.weight', 'float32', ['vocabulary', 'model']);
  return op.logSoftmax(op.linear(x, table, 1 / temperature), 'vocabulary') as Float;
}

/** Log-probability of one target token a position. */
export function targetLogprobs(logprobs: Float, targets: Value<'int64', readonly ['picked']>): Picked {
  const column = op.unsqueeze(targets, ['picked', '1']) as Value<'int64', Axes>;
  return op.squeeze(op.gatherElements(logprobs, 'vocabulary', column), ['picked']);
}

/** Scalar head of a reward model or value function, `<name>.weight` [1, model] and `<name>.bias` [1]. */
export function scalarHead(g: GraphBuilder, x: PickedHidden, name: 'score' | 'value'): Picked {
  const scores = op.linear(x, g.parameter(`${name}.weight`, 'float32', ['score', 'model']));
  return op.squeeze(op.add(scores, g.parameter(`${name}.bias`, 'float32', ['score'])), ['picked']);
}
