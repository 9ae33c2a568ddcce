/** Pieces that decoders share: weights in whatever form, products with them, attention over the cache. */

import { type Blocking, blocksOf, bytesPerBlock } from '../checkpoint/quantize.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { Value } from '../graph/ir.js';
import { add, cast, gather, linear, matmulNBits } from '../graph/ops.js';
import type {
  LeadingFactor,
  MatrixSource,
  WeightForm,
  WeightSource,
  WeightSpec,
  WeightType,
} from './decoder.js';
import type { ModelConfig } from './model-config.js';

/** Type of activations, norms, biases and the KV cache. */
export type Activations = 'float32' | 'float16';
export const activationsOf = (form: WeightForm): Activations => (form === 'float16' ? 'float16' : 'float32');

/** How attention runs. */
export interface AttentionForm {
  /** Of its operands and the KV cache. CUDA's GroupQueryAttention has no float32. */
  readonly type: Activations;
  /** Where queries are multiplied by 1 / sqrt(headDim). Weights that somebody else uses too must stay as they are: `attention`. */
  readonly scale: 'weights' | 'attention';
}

/** The CPU's fast kernel for one position of a row takes no factor of its own (docs/performance.md). */
const attentionOf = {
  float32: { type: 'float32', scale: 'weights' },
  float16: { type: 'float16', scale: 'attention' },
} as const satisfies Record<Activations, AttentionForm>;

/** What a product is for, as far as its weights' form depends on it. */
export type Place = 'queryKeyValue' | 'layer' | 'head';

/**
 * Bits and widest block of each product; null: not quantised. Blocks of 64 take an eighth off the bytes that a step reads, and most of
 * what they cost is in queries, keys and values. At 4 bits they cost too much, and so does a head of 4 bits (docs/decisions/0003).
 */
const blockings = {
  float32: { queryKeyValue: null, layer: null, head: null },
  float16: { queryKeyValue: null, layer: null, head: null },
  int8: {
    queryKeyValue: { bits: 8, block: 32 },
    layer: { bits: 8, block: 64 },
    head: { bits: 8, block: 64 },
  },
  int4: {
    queryKeyValue: { bits: 4, block: 32 },
    layer: { bits: 4, block: 32 },
    head: { bits: 8, block: 64 },
  },
} as const satisfies Record<WeightForm, Record<Place, Blocking | null>>;

/** Blocks of 64 that a row's end would cut are blocks of 32: padding is read too. */
const fitting = (blocking: Blocking, inputs: number): Blocking =>
  inputs % blocking.block === 0 ? blocking : { ...blocking, block: 32 };

/** The residual stream: [rows, time, hidden]. */
export type Stream = Value<Activations, readonly ['rows', 'time', 'hidden']>;

/** A graph under construction, and the weights that its parameters stand for. */
export class DecoderBuilder {
  readonly g: GraphBuilder;
  readonly config: ModelConfig;
  readonly form: WeightForm;
  readonly activations: Activations;
  readonly attention: AttentionForm;
  readonly #weights = new Map<string, WeightSpec>();

  constructor(g: GraphBuilder, config: ModelConfig, form: WeightForm, attention?: AttentionForm) {
    this.g = g;
    this.config = config;
    this.form = form;
    this.activations = activationsOf(form);
    this.attention = attention ?? attentionOf[this.activations];
  }

  get weights(): WeightSpec[] {
    return [...this.#weights.values()];
  }

  /** A parameter of the graph and where its bytes come from. */
  parameter<const A extends readonly string[], E extends WeightType>(
    name: string,
    type: E,
    axes: A,
    source: WeightSource,
  ): Value<E, A> {
    const value = this.g.parameter(name, type, axes);
    const shape = value.extents.map((extent) => extent ?? 1);
    this.#weights.set(value.name, { name: value.name, type, shape, source });
    return value;
  }

  /** A bias, a norm's scale: one axis, in the activations' type. */
  vector<K extends string>(
    name: string,
    axis: K,
    ...tensors: readonly [string, number][]
  ): Value<Activations, readonly [K]> {
    return this.scaledVector(name, axis, null, ...tensors);
  }

  /** The same with its first elements multiplied by a factor. */
  scaledVector<K extends string>(
    name: string,
    axis: K,
    scaled: LeadingFactor | null,
    ...tensors: readonly [string, number][]
  ): Value<Activations, readonly [K]> {
    const parts = tensors.map(([tensor, size]) => ({ tensor, size }));
    return this.parameter(name, this.activations, [axis], {
      kind: 'vector',
      parts,
      ...(scaled !== null && { scaled }),
    });
  }

  /** x times the matrix, plus a bias: one node where the weights are quantised. */
  product<L extends readonly string[], K extends string, N extends string>(
    x: Value<Activations, readonly [...L, K]>,
    name: string,
    axes: { readonly outputs: N; readonly inputs: K },
    matrix: MatrixSource,
    options: { readonly bias?: Value<Activations, readonly [N]>; readonly place?: Place } = {},
  ): Value<Activations, readonly [...L, N]> {
    const { bias, place = 'layer' } = options;
    const blocking = blockings[this.form][place];
    if (blocking !== null) {
      const source = { blocking: fitting(blocking, matrix.inputs), matrix };
      return this.#quantizedProduct(x, name, axes, source, bias);
    }
    const weight = this.parameter(`${name}.weight`, this.activations, [axes.outputs, axes.inputs], {
      kind: 'matrix',
      matrix,
    });
    const product = linear<Activations, L, K, N>(x, weight as never);
    return bias === undefined
      ? product
      : (add(product as Value<Activations>, bias as Value<Activations>) as never);
  }

  #quantizedProduct<L extends readonly string[], K extends string, N extends string>(
    x: Value<Activations, readonly [...L, K]>,
    name: string,
    { outputs }: { readonly outputs: N },
    { blocking, matrix }: { readonly blocking: Blocking; readonly matrix: MatrixSource },
    bias: Value<Activations, readonly [N]> | undefined,
  ): Value<Activations, readonly [...L, N]> {
    const axes = {
      [`${name}.blocks`]: blocksOf(matrix.inputs, blocking),
      [`${name}.bytes`]: bytesPerBlock(blocking),
    };
    return this.g.scope(
      name,
      () => {
        const blocks = this.parameter('blocks', 'uint8', [outputs, `${name}.blocks`, `${name}.bytes`], {
          kind: 'blocks',
          blocking,
          matrix,
        });
        const scales = this.parameter('scales', this.activations, [outputs, `${name}.blocks`], {
          kind: 'scales',
          blocking,
          matrix,
        });
        const how = { ...blocking, axis: outputs, accuracyLevel: 4 } as const;
        return matmulNBits<Activations, L, K, N>(
          x,
          { blocks, scales } as never,
          how,
          (bias ?? null) as never,
        );
      },
      axes,
    );
  }
}

/** Rows of an embedding table, in the activations' type. Beside quantised products the table is float16: exact enough, and only looked up. */
export function embed(
  builder: DecoderBuilder,
  name: string,
  axis: string,
  table: MatrixSource,
  indices: Value<'int64', readonly ['rows', 'time']>,
): Stream {
  const type = builder.form === 'float32' ? 'float32' : 'float16';
  const weight = builder.parameter(name, type, [axis, 'hidden'], { kind: 'matrix', matrix: table });
  return cast(gather(weight, axis, indices) as Value<'float32' | 'float16'>, builder.activations) as Stream;
}
