/** Causal attention of products and softmax, for training. */
import type { GraphBuilder } from '../models/graph/builder.js';
import type { Axes, Value } from '../models/graph/ir.js';
import * as op from '../models/graph/ops.js';
import type { ModelConfig } from '../models/transformer/model-config.js';
import { rotaryTables } from '../models/transformer/rotary.js';

type Float = Value<'float32', Axes>;
type Tokens = Value<'int64', readonly ['rows', 'time']>;
type Mask = Value<'float32', readonly ['group*time', 'keys']>;
type Projected<N extends string> = Value<'float32', readonly ['rows', 'time', N]>;

/** Low enough that exp gives 0 beside any score, finite so that no NaN can come of it. */
const MASKED = -1e9;

/**
 * What is added to the scores of a layer: 0 where a position may look, -1e9 elsewhere. One mask for each window size, made once.
 * The queries of the heads that share a key head lie one after the other, so the mask repeats for each of them.
 */
function causalMasks(g: GraphBuilder, config: ModelConfig, tokens: Tokens): (layer: number) => Mask {
  const windows = new Set(config.attentionWindow);
  const made = new Map(
    [...windows].map((window) => [window, g.scope('mask', () => causalMask(g, tokens, window))]),
  );
  return (layer) => made.get(config.attentionWindow[layer] ?? null)!;
}

function causalMask(g: GraphBuilder, tokens: Tokens, window: number | null): Mask {
  const length = op.squeeze(op.extentValue(tokens, 'time'), []);
  const queries = op.unsqueeze(op.range(length, 'time'), ['time', '1']) as Value<'int64', Axes>;
  const keys = op.range(length, 'keys') as Value<'int64', Axes>;
  const distance = op.sub(queries, keys as never) as Value<'int64', Axes>;
  const past = op.greaterOrEqual(distance, 0) as Value<'bool', Axes>;
  const seen =
    window === null ? past : (op.and(past, op.less(distance, window) as never) as Value<'bool', Axes>);
  const mask = op.where(seen, g.constant('float32', 0, []) as Float, MASKED) as Float;
  const copies = new Array<Float>(g.extent('group') as number).fill(mask) as [Float, ...Float[]];
  return op.concat(copies, 'time', 'group*time') as Mask;
}

export interface Projections {
  readonly q: Projected<'query'>;
  readonly k: Projected<'key'>;
  readonly v: Projected<'key'>;
}

/** Attention of one layer, its norms' parameters named in the scope around the call. */
export type Attend = (layer: number, projections: Projections) => Projected<'query'>;

/**
 * softmax(q k^T / sqrt(head) + mask) v, heads in groups that share a key and a value head. The queries of a group are stacked along time,
 * so that a group is one product and no key is repeated in memory. Masks and rotary tables are made once for all layers.
 * @param maxTime longest row that the graph will see; bounds the rotary tables
 */
export function createAttention(
  g: GraphBuilder,
  config: ModelConfig,
  tokens: Tokens,
  maxTime: number,
): Attend {
  const masks = causalMasks(g, config, tokens);
  const rotate = rotation(g, config, tokens, maxTime);
  const scale = 1 / Math.sqrt(config.headDim);
  return (layer, { q, k, v }) => {
    const query = rotate(headNorm(g, config, 'q_norm', byHead(q as Float, 'query', 'heads')), 'time');
    const key = rotate(headNorm(g, config, 'k_norm', byHead(k as Float, 'key', 'kv')), 'time');
    const stacked = op.reshape(query, ['rows', 'kv', 'group*time', 'head']);
    const keys = op.rename(key, { time: 'keys' } as never) as Float;
    const values = op.rename(byHead(v as Float, 'key', 'kv'), { time: 'keys' } as never) as Float;
    const scores = op.fusedMatmul(stacked as Float, keys as never, {
      right: 'transposed',
      alpha: scale,
    }) as Float;
    const weights = op.softmax(op.add(scores, masks(layer) as never) as Float, 'keys');
    const context = op.fusedMatmul(weights, values as never, {}) as Float;
    const heads = op.reshape(context, ['rows', 'heads', 'time', 'head']);
    return op.reshape(op.transpose(heads, ['rows', 'time', 'heads', 'head']), ['rows', 'time', 'query']);
  };
}

/** [rows, time, heads head] -> [rows, heads, time, head] */
function byHead(x: Float, axis: 'query' | 'key', heads: 'heads' | 'kv'): Float {
  const apart = op.splitAxis(x, axis, [heads, 'head']) as Float;
  return op.transpose(apart, ['rows', heads, 'time', 'head'] as never) as Float;
}

/** RMS norm of each head (Qwen3), or the heads as they are. */
function headNorm(g: GraphBuilder, config: ModelConfig, name: string, x: Float): Float {
  if (!config.queryKeyNorm) return x;
  const scale = g.parameter(`${name}.weight`, 'float32', ['head']);
  return op.rmsNorm(x as Value<'float32', readonly [...Axes, 'head']>, scale, config.normEpsilon) as Float;
}

/** Rotary positions counted from each row's first token; nothing where positions are learned. */
function rotation(
  g: GraphBuilder,
  config: ModelConfig,
  tokens: Tokens,
  maxTime: number,
): (x: Float, time: 'time') => Float {
  const { position } = config;
  if (position.kind === 'learned') return (x) => x;
  return g.scope(
    'rotary',
    () => {
      const { cos, sin } = rotaryTables(position, config.headDim, maxTime);
      const [cosine, sine] = [cos, sin].map((table) => g.constant('float32', [...table], ['angles', 'half']));
      const time = op.range(op.squeeze(op.extentValue(tokens, 'time'), []), 'time');
      const positions = op.expandTo(op.unsqueeze(time, ['1', 'time']), tokens);
      return (x) =>
        op.rotaryEmbedding(x as never, positions as never, cosine as never, sine as never) as Float;
    },
    { angles: maxTime },
  );
}
