/**
 * What a decoder graph looks like from outside: the names and axes of its inputs and outputs, the KV cache it wants, and the weights it
 * was built for. One graph serves prefill and decode; only shapes differ. The engine feeds it, `load-decoder` opens it.
 *
 * A run is one of three, told apart by its shapes alone (GroupQueryAttention's rules, ONNX Runtime 1.30):
 *
 * | run          | rows | time  | cache before       | seqlens_k[row]           | total_sequence_length |
 * |--------------|------|-------|--------------------|--------------------------|-----------------------|
 * | first prompt | any  | any   | empty in every row | tokens of the row - 1    | time                  |
 * | next chunk   | 1    | any   | p tokens           | p + time - 1             | p + time              |
 * | decode step  | any  | 1     | p[row] tokens      | p[row]                   | max(p) + 1            |
 *
 * A first prompt of several rows is padded on the right; what stands in the padding reaches no other position, and its logits are
 * garbage that nobody should pick. Every past tensor and its present tensor must be bound to the same memory.
 */
import type { Blocking } from '../checkpoint/quantize.js';
import type { Graph } from '../graph/ir.js';

/** Element types of weights and KV caches. */
export type WeightType = 'float32' | 'float16' | 'uint8';

/** How the products' weights are held. float16 runs on CUDA; the others on the CPU, with float32 activations. */
export type WeightForm = 'float32' | 'float16' | 'int8' | 'int4';

/** Inputs by role. KV inputs come on top, by `pastKeyName` and `pastValueName`. */
export const decoderInputs = {
  /** int64 [rows, time] */
  tokens: 'input_ids',
  /** int32 [rows]: index of the row's last valid position after this run. */
  lastPosition: 'seqlens_k',
  /** int32 scalar, in host memory on every provider: the longest row after this run. */
  totalLength: 'total_sequence_length',
  /** int64 [picked]: `row * time + position` of each position that goes through the head, in any order. */
  picked: 'logit_positions',
} as const;

/** Outputs by head. */
export const decoderOutputs = {
  /** float32 [picked, vocabulary] on every provider. */
  language: 'logits',
  /** float32 [picked]: the head's output as trained; the checkpoint's mean is not taken off. */
  reward: 'scores',
} as const;

export const pastKeyName = (layer: number): string => `past_key_${layer}`;
export const pastValueName = (layer: number): string => `past_value_${layer}`;
export const presentKeyName = (layer: number): string => `present_key_${layer}`;
export const presentValueName = (layer: number): string => `present_value_${layer}`;

/** One key and one value tensor a layer, each [slots, heads, length, headDim]. */
export interface KvLayout {
  readonly layers: number;
  readonly heads: number;
  /** At least the model's own: some heads are filled up with zeros. */
  readonly headDim: number;
  readonly type: 'float32' | 'float16';
}

export const kvShape = (
  layout: KvLayout,
  slots: number,
  length: number,
): [slots: number, heads: number, length: number, headDim: number] => [
  slots,
  layout.heads,
  length,
  layout.headDim,
];

/** Bytes of keys and values that one position of one slot takes over all layers. */
export const kvBytesPerPosition = (layout: KvLayout): number =>
  2 * layout.layers * layout.heads * layout.headDim * (layout.type === 'float32' ? 4 : 2);

/** An initializer that the graph leaves to its loader, and how to make it from the checkpoint's tensors. */
export interface WeightSpec {
  /** The initializer's name in the graph. */
  readonly name: string;
  readonly type: WeightType;
  readonly shape: readonly number[];
  readonly source: WeightSource;
}

/** A tensor of the checkpoint, and its extent along the stacked axis. */
export interface TensorPart {
  readonly tensor: string;
  readonly size: number;
}

/** The first `size` outputs (rows of a matrix, elements of a vector) are multiplied by `factor` as they are read. */
export interface LeadingFactor {
  readonly size: number;
  readonly factor: number;
}

/**
 * A matrix is [out, in], as Hugging Face's Linear keeps it; `parts` are stacked along `out` (query, key, value; gate, up).
 * A `transposed` matrix has one part, which is [in, out] in the checkpoint (GPT-2's Conv1D).
 */
export interface MatrixSource {
  readonly parts: readonly TensorPart[];
  readonly outputs: number;
  readonly inputs: number;
  readonly transposed: boolean;
  readonly scaled?: LeadingFactor;
}

export type WeightSource =
  /** Vectors laid end to end. */
  | { readonly kind: 'vector'; readonly parts: readonly TensorPart[]; readonly scaled?: LeadingFactor }
  | { readonly kind: 'matrix'; readonly matrix: MatrixSource }
  /** MatMulNBits' B of that matrix: [out, in / block, bytes a block]. */
  | { readonly kind: 'blocks'; readonly blocking: Blocking; readonly matrix: MatrixSource }
  /** MatMulNBits' scales of that matrix: float32 [out, in / block]. */
  | { readonly kind: 'scales'; readonly blocking: Blocking; readonly matrix: MatrixSource }
  /** Not in the checkpoint: rotary tables and the like, small enough to compute. */
  | { readonly kind: 'computed'; readonly values: Float32Array };

export type DecoderHead =
  | {
      readonly kind: 'language';
      readonly output: typeof decoderOutputs.language;
      readonly vocabulary: number;
    }
  | { readonly kind: 'reward'; readonly output: typeof decoderOutputs.reward };

/** A graph ready to be opened as a session once its weights are there. */
export interface DecoderGraph {
  /** The weights are its parameters, by the names of `weights`. */
  readonly graph: Graph;
  readonly form: WeightForm;
  readonly head: DecoderHead;
  readonly kv: KvLayout;
  /** Positions the graph can address (rotary or learned): no slot may be longer. */
  readonly maxPositions: number;
  readonly weights: readonly WeightSpec[];
}
