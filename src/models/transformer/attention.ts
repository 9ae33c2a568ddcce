/** Causal attention of one layer over its cache, with what must be done to queries and keys before it. */
import type { Axes, Value } from '../graph/ir.js';
import {
  cast,
  groupQueryAttention,
  linear,
  matmul,
  mergeAxes,
  rmsNorm,
  rotaryEmbedding,
  split,
  splitAxis,
  transpose,
} from '../graph/ops.js';
import type { Activations, DecoderBuilder } from './blocks.js';
import { pastKeyName, pastValueName, presentKeyName, presentValueName } from './decoder.js';
import type { ModelConfig } from './model-config.js';
import { type Tokens, tokenPositions } from './positions.js';
import { type Rotary, rotaryTables } from './rotary.js';

/** Inputs of attention that all layers share. */
export interface AttentionInputs {
  readonly rotary: RotaryInputs | null;
  readonly lastPosition: Value<'int32', readonly ['rows']>;
  readonly totalLength: Value<'int32', readonly []>;
}

export interface RotaryInputs {
  /** Tables [positions, headDim / 2]. */
  readonly cosine: Value<Activations, readonly ['table', 'pair']>;
  readonly sine: Value<Activations, readonly ['table', 'pair']>;
  /** null: GroupQueryAttention rotates. Otherwise the rotation stands before it, and needs each token's position. */
  readonly positions: Tokens | null;
}

/** Heads that GroupQueryAttention rotates itself are multiples of this long (ONNX Runtime 1.30). */
const ROTATED_HEAD_MULTIPLE = 16;

/** @param count Rows of the tables: positions that a slot may hold. */
export function rotaryInputs(
  builder: DecoderBuilder,
  tokens: Tokens,
  positions: {
    readonly rotary: Rotary;
    readonly count: number;
    readonly lastPosition: AttentionInputs['lastPosition'];
  },
): RotaryInputs {
  const { headDim } = builder.config;
  const { cos, sin } = rotaryTables(positions.rotary, headDim, positions.count);
  const rotatesItself = headDim % ROTATED_HEAD_MULTIPLE === 0;
  const type = rotatesItself ? builder.attention.type : builder.activations;
  const table = (name: string, values: Float32Array) =>
    builder.parameter(name, type, ['table', 'pair'], { kind: 'computed', values });
  return {
    cosine: table('rotary.cosine', cos),
    sine: table('rotary.sine', sin),
    positions: rotatesItself ? null : tokenPositions(tokens, positions.lastPosition),
  };
}

/** Scales of Qwen3's norms of each query and key head. */
export interface HeadNorms {
  readonly query: Value<Activations, readonly ['head']>;
  readonly key: Value<Activations, readonly ['head']>;
}

/** GroupQueryAttention takes heads that are multiples of this long; others are filled up with zeros, which change no product. */
const CACHED_HEAD_MULTIPLE = 8;

/** Length of a head in the KV cache. */
export const cachedHeadDim = (headDim: number): number =>
  Math.ceil(headDim / CACHED_HEAD_MULTIPLE) * CACHED_HEAD_MULTIPLE;

type Packed = Value<Activations, readonly ['rows', 'time', 'qkv']>;
type Rows = Value<Activations, readonly ['rows', 'time', string]>;
/** Without key and value, queries, keys and values are packed. */
interface Operands {
  readonly query: Rows;
  readonly key?: Rows;
  readonly value?: Rows;
}
type Heads = Value<Activations, readonly ['rows', 'time', string, string]>;

/** Packed queries (times `queryFactor`, or normed by it), keys and values [rows, time, (heads + 2 kvHeads) head] -> [rows, time, heads head]. */
export function attend(
  builder: DecoderBuilder,
  layer: number,
  packed: Packed,
  inputs: AttentionInputs,
  norms: HeadNorms | null,
): Value<Activations, readonly ['rows', 'time', 'attended']> {
  const { g, config } = builder;
  const { type } = builder.attention;
  const { rotary } = inputs;
  const cacheAxes = ['rows', 'kv_heads', 'positions', 'cached_head'] as const;
  const rotatesItself = rotary !== null && rotary.positions === null;
  const { attended, presentKey, presentValue } = groupQueryAttention(
    {
      ...inType(operands(builder, packed, rotary, norms), type),
      pastKey: g.input(pastKeyName(layer), type, cacheAxes),
      pastValue: g.input(pastValueName(layer), type, cacheAxes),
      lastPosition: inputs.lastPosition,
      totalLength: inputs.totalLength,
      ...(rotatesItself && { cosine: rotary.cosine, sine: rotary.sine }),
    },
    {
      heads: config.heads,
      kvHeads: config.keyValueHeads,
      axis: isFilled(config) ? 'attended_filled' : 'attended',
      present: 'positions',
      rotary: rotatesItself ? 'halves' : 'none',
      window: config.attentionWindow[layer] ?? null,
      scale: attentionScale(builder),
    },
  );
  g.output(presentKeyName(layer), presentKey);
  g.output(presentValueName(layer), presentValue);
  const back = castTo(attended as Rows, builder.activations);
  const whole = isFilled(config) ? emptyHeads(builder, back) : back;
  return whole as Value<Activations, readonly ['rows', 'time', 'attended']>;
}

const castTo = (x: Rows, type: Activations): Rows => (x.type === type ? x : (cast(x, type) as Rows));

const inType = ({ query, key, value }: Operands, type: Activations): Operands => ({
  query: castTo(query, type),
  ...(key && { key: castTo(key, type) }),
  ...(value && { value: castTo(value, type) }),
});

/** What queries are multiplied by before they reach `attend`, by the weights that give them. */
export const queryFactor = ({ config, attention }: DecoderBuilder): number =>
  attention.scale === 'weights' ? 1 / Math.sqrt(config.headDim) : 1;

/** null: GroupQueryAttention's own, from the length of the heads that it sees. */
function attentionScale({ config, attention }: DecoderBuilder): number | null {
  if (attention.scale === 'weights') return 1;
  return isFilled(config) ? 1 / Math.sqrt(config.headDim) : null;
}

const isFilled = ({ headDim }: ModelConfig): boolean => cachedHeadDim(headDim) !== headDim;

/** Packed as they are where attention does all itself; its own head norms exist on CUDA alone (ONNX Runtime 1.30). */
function operands(
  builder: DecoderBuilder,
  packed: Packed,
  rotary: RotaryInputs | null,
  norms: HeadNorms | null,
): Operands {
  const { config } = builder;
  const positions = rotary?.positions ?? null;
  if (norms === null && positions === null && !isFilled(config)) return { query: packed };
  const [query, key, value] = split(packed, 'qkv', ['q', 'k', 'v']);
  const normed = (heads: Heads, norm: HeadNorms['query'] | undefined): Heads =>
    norm === undefined ? heads : (rmsNorm(heads as never, norm as never, config.normEpsilon) as Heads);
  const rotated = (heads: Heads): Heads =>
    rotary === null || positions === null ? heads : rotate(heads, rotary, positions);
  const filled = (heads: Heads): Heads => (isFilled(config) ? fillHeads(builder, heads) : heads);
  const merged = (heads: Heads, as: string): Rows => {
    const [, , count, head] = heads.axes;
    return mergeAxes(
      heads as Value<Activations>,
      [count, head] as never,
      isFilled(config) ? `${as}_filled` : as,
    ) as never;
  };
  return {
    query: merged(filled(rotated(normed(splitAxis(query, 'q', ['heads', 'head']), norms?.query))), 'q'),
    key: merged(filled(rotated(normed(splitAxis(key, 'k', ['kv_heads', 'head']), norms?.key))), 'k'),
    value: merged(filled(splitAxis(value, 'v', ['kv_heads', 'head'])), 'v'),
  };
}

function rotate(x: Heads, { cosine, sine }: RotaryInputs, positions: Tokens): Heads {
  const [rows, time, heads, head] = x.axes;
  const outer = transpose<Activations, Axes, Axes>(x, [rows, heads, time, head]);
  const turned = rotaryEmbedding(outer as never, positions as never, cosine as never, sine as never);
  return transpose<Activations, Axes, Axes>(turned as Value<Activations>, [rows, time, heads, head]) as Heads;
}

/** [head, cached_head]: ones on the diagonal. A product with it appends zeros, and with its transpose drops them; both are exact. */
function fill({
  g,
  config,
  activations,
}: DecoderBuilder): Value<Activations, readonly ['head', 'cached_head']> {
  const width = cachedHeadDim(config.headDim);
  const ones = Array.from({ length: config.headDim * width }, (_, at) =>
    Math.floor(at / width) === at % width ? 1 : 0,
  );
  return g.constant(activations, ones, ['head', 'cached_head']);
}

const fillHeads = (builder: DecoderBuilder, heads: Heads): Heads =>
  matmul(heads as Value<Activations, readonly ['rows', 'time', string, 'head']>, fill(builder));

function emptyHeads(builder: DecoderBuilder, attended: Rows): Value<Activations, Axes> {
  const heads = splitAxis(
    attended as Value<Activations, readonly ['rows', 'time', 'attended_filled']>,
    'attended_filled',
    ['heads', 'cached_head'],
  );
  return mergeAxes(linear(heads, fill(builder)), ['heads', 'head'], 'attended');
}
