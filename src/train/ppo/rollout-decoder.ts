import { slotIndex } from '../../core/units.js';
import { float32ToFloat16 } from '../../models/checkpoint/float-formats.js';
import { KvCache } from '../../models/engine/kv-cache.js';
import { encodeModel } from '../../models/graph/onnx.js';
import type { Binding, DeviceTensor, Provider, Runtime, Session } from '../../models/runtime/session.js';
import { buildDecoder } from '../../models/transformer/build-decoder.js';
import {
  decoderInputs,
  decoderOutputs,
  type KvLayout,
  type WeightType,
} from '../../models/transformer/decoder.js';
import type { ModelConfig } from '../../models/transformer/model-config.js';
import type { ParameterArena } from '../optim/parameter-arena.js';
import { DecoderWeights } from './decoder-weights.js';

export interface RolloutDecoderOptions {
  /** Sequences that decode at once. */
  readonly rows: number;
  /** Positions of a sequence, prompt and response. */
  readonly length: number;
  /** What attention and the cache are in; by default float32 where the provider has a kernel for it. */
  readonly attention?: KvLayout['type'];
}

/** CUDA's attention has no float32: operands are cast on the way in, the result on the way out. */
const attentionTypes = { cpu: 'float32', cuda: 'float16' } as const satisfies Record<
  Provider,
  KvLayout['type']
>;

function encodeFloats(values: Float32Array, type: WeightType): Uint8Array {
  const encoded = type === 'float16' ? new Uint16Array(values.length) : values;
  if (encoded instanceof Uint16Array) float32ToFloat16(values, encoded);
  return new Uint8Array(encoded.buffer, encoded.byteOffset, encoded.byteLength);
}

/**
 * The serving engine's decoder graph and KV cache over a trainer's own weights, for whole batches: one run for all prompts, then one run a
 * token for all rows.
 */
export class RolloutDecoder implements Disposable {
  readonly rows: number;
  readonly length: number;
  readonly vocabulary: number;
  readonly #session: Session;
  readonly #weights: DecoderWeights;
  readonly #cache: KvCache;
  readonly #tokens: DeviceTensor<'int64'>;
  readonly #lastPosition: DeviceTensor<'int32'>;
  readonly #totalLength: DeviceTensor<'int32'>;
  readonly #picked: DeviceTensor<'int64'>;
  readonly #logits: DeviceTensor<'float32'>;
  #decoding: { readonly rows: number; readonly binding: Binding } | null = null;

  /** Follows the arena: every run sees the weights as they are then. @throws `invalid_value` where `length` exceeds the model's context */
  constructor(
    runtime: Runtime,
    config: ModelConfig,
    arena: ParameterArena,
    { rows, length, attention }: RolloutDecoderOptions,
  ) {
    const names = new Set(arena.layout.entries.map(({ name }) => name));
    const decoder = buildDecoder(config, names, {
      form: 'float32',
      maxPositions: length,
      attention: { type: attention ?? attentionTypes[runtime.provider], scale: 'attention' },
    });
    const computed = new Map(
      decoder.weights.flatMap(({ name, type, source }) =>
        source.kind === 'computed' ? [[name, encodeFloats(source.values, type)] as const] : [],
      ),
    );
    this.rows = rows;
    this.length = length;
    this.vocabulary = config.vocabulary;
    this.#session = runtime.openSession(
      encodeModel(decoder.graph, {
        parameters: ({ name }) => {
          const data = computed.get(name);
          return data === undefined ? { kind: 'input' } : { kind: 'inline', data };
        },
      }),
    );
    this.#weights = new DecoderWeights(
      runtime,
      arena,
      decoder.weights.filter(({ source }) => source.kind !== 'computed'),
    );
    this.#cache = new KvCache(runtime, decoder.kv, rows, length);
    this.#tokens = runtime.allocateHost('int64', [rows * length]);
    this.#lastPosition = runtime.allocateHost('int32', [rows]);
    this.#totalLength = runtime.allocateHost('int32', []);
    this.#picked = runtime.allocateHost('int64', [rows]);
    this.#logits = runtime.allocateHost('float32', [rows, config.vocabulary]);
  }

  /**
   * Starts a batch: prompts padded on the right, each distinct prompt computed once.
   * @returns logits float32 [prompts, vocabulary] after each prompt's last token; valid until the next call
   */
  prefill(prompts: readonly (readonly number[])[]): Float32Array {
    this.#weights.refresh();
    const distinct = distinctPrompts(prompts);
    const rows = distinct.prompts.length;
    const time = Math.max(...distinct.prompts.map(({ length }) => length));
    const tokens = this.#tokens.host!.fill(0n, 0, rows * time);
    for (const [row, prompt] of distinct.prompts.entries()) {
      for (const [at, token] of prompt.entries()) tokens[row * time + at] = BigInt(token);
      this.#lastPosition.host![row] = prompt.length - 1;
      this.#picked.host![row] = BigInt(row * time + prompt.length - 1);
    }
    this.#totalLength.host![0] = time;
    using binding = this.#bind(rows, time);
    binding.run();
    this.#spread(distinct, prompts);
    return this.#logits.host!.subarray(0, prompts.length * this.vocabulary);
  }

  /**
   * One token more in every row.
   * @param positions of the tokens: what each row holds already
   * @returns logits float32 [rows, vocabulary]; valid until the next call
   */
  decode(tokens: Int32Array, positions: Int32Array): Float32Array {
    const rows = tokens.length;
    let longest = 0;
    for (let row = 0; row < rows; row++) {
      this.#tokens.host![row] = BigInt(tokens[row]!);
      this.#lastPosition.host![row] = positions[row]!;
      this.#picked.host![row] = BigInt(row);
      longest = Math.max(longest, positions[row]! + 1);
    }
    this.#totalLength.host![0] = longest;
    if (this.#decoding?.rows !== rows) {
      this.#decoding?.binding[Symbol.dispose]();
      this.#decoding = { rows, binding: this.#bind(rows, 1) };
    }
    this.#decoding.binding.run();
    return this.#logits.host!.subarray(0, rows * this.vocabulary);
  }

  #bind(rows: number, time: number): Binding {
    const binding = this.#session.createBinding();
    this.#weights.bind(binding);
    this.#cache.bind(binding, slotIndex(0), rows);
    binding.bindInput(decoderInputs.tokens, this.#tokens.view([rows, time]));
    binding.bindInput(decoderInputs.lastPosition, this.#lastPosition.view([rows]));
    binding.bindInput(decoderInputs.totalLength, this.#totalLength);
    binding.bindInput(decoderInputs.picked, this.#picked.view([rows]));
    binding.bindOutput(decoderOutputs.language, this.#logits.view([rows, this.vocabulary]));
    return binding;
  }

  /** Gives every row its prompt's keys, values and logits. From the last row down, since a prompt never stands after its repetition. */
  #spread({ prompts, indices }: DistinctPrompts, asked: readonly (readonly number[])[]): void {
    if (prompts.length === asked.length) return;
    const logits = this.#logits.host!;
    for (let row = asked.length - 1; row >= 0; row--) {
      const from = indices[row]!;
      if (from === row) continue;
      this.#cache.copyPrefix(slotIndex(from), slotIndex(row), asked[row]!.length);
      logits.copyWithin(row * this.vocabulary, from * this.vocabulary, (from + 1) * this.vocabulary);
    }
  }

  [Symbol.dispose](): void {
    this.#decoding?.binding[Symbol.dispose]();
    for (const part of [this.#session, this.#weights, this.#cache]) part[Symbol.dispose]();
    for (const tensor of [this.#tokens, this.#lastPosition, this.#totalLength, this.#picked, this.#logits])
      tensor[Symbol.dispose]();
  }
}

interface DistinctPrompts {
  readonly prompts: readonly (readonly number[])[];
  /** Row -> its prompt's index, never after the row. */
  readonly indices: readonly number[];
}

function distinctPrompts(prompts: readonly (readonly number[])[]): DistinctPrompts {
  const known = new Map<string, number>();
  const distinct: (readonly number[])[] = [];
  const indices = prompts.map((prompt) => {
    const key = prompt.join();
    const before = known.get(key);
    if (before !== undefined) return before;
    known.set(key, distinct.length);
    distinct.push(prompt);
    return distinct.length - 1;
  });
  return { prompts: distinct, indices };
}
