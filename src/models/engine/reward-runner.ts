import { AppError } from '../../core/errors.js';
import type { DeviceTensor, Runtime } from '../runtime/session.js';
import {
  decoderInputs,
  decoderOutputs,
  kvShape,
  pastKeyName,
  pastValueName,
  presentKeyName,
  presentValueName,
} from '../transformer/decoder.js';
import type { LoadedDecoder } from '../transformer/load-decoder.js';
import type { HeadOutputs, ScoreRow, ScoreRunner } from './score-core.js';

/**
 * Runs a decoder with a reward head over whole sequences. Nothing is kept between two batches, so keys and values have no slots: their
 * memory is seen as [rows, heads, time, headDim] of whatever batch comes.
 */
export class RewardRunner implements ScoreRunner {
  readonly #runtime: Runtime;
  readonly #decoder: LoadedDecoder;
  readonly #keysAndValues: readonly DeviceTensor[];

  /**
   * Takes the decoder over: disposing of the runner closes its session.
   * @param positions Most positions of a batch, padding included.
   */
  constructor(runtime: Runtime, decoder: LoadedDecoder, positions: number) {
    const { kv } = decoder.graph;
    this.#runtime = runtime;
    this.#decoder = decoder;
    this.#keysAndValues = Array.from({ length: 2 * kv.layers }, () =>
      runtime.allocate(kv.type, [positions * kv.heads * kv.headDim]),
    );
  }

  run(batch: readonly ScoreRow[]): HeadOutputs[] {
    const rows = batch.length;
    const time = Math.max(...batch.map(({ tokens }) => tokens.length));
    const ids = new BigInt64Array(rows * time);
    const picked: number[] = [];
    for (const [row, { tokens, positions }] of batch.entries()) {
      for (const [at, token] of tokens.entries()) ids[row * time + at] = BigInt(token);
      const first = positions === 'all' ? 0 : tokens.length - 1;
      for (let at = first; at < tokens.length; at++) picked.push(row * time + at);
    }
    const last = Int32Array.from(batch, ({ tokens }) => tokens.length - 1);
    const scores = this.#run(rows, time, ids, last, BigInt64Array.from(picked, BigInt));
    return split(scores, batch);
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#keysAndValues) tensor[Symbol.dispose]();
    this.#decoder[Symbol.dispose]();
  }

  #run(
    rows: number,
    time: number,
    ids: BigInt64Array,
    last: Int32Array,
    picked: BigInt64Array,
  ): Float32Array {
    using tokens = this.#runtime.allocateHost('int64', [rows, time]);
    using lastPosition = this.#runtime.allocateHost('int32', [rows]);
    using totalLength = this.#runtime.allocateHost('int32', []);
    using pickedPositions = this.#runtime.allocateHost('int64', [picked.length]);
    using scores = this.#runtime.allocateHost('float32', [picked.length]);
    tokens.write(ids);
    lastPosition.write(last);
    totalLength.write(Int32Array.of(time));
    pickedPositions.write(picked);
    using binding = this.#decoder.session.createBinding();
    binding.bindInput(decoderInputs.tokens, tokens);
    binding.bindInput(decoderInputs.lastPosition, lastPosition);
    binding.bindInput(decoderInputs.totalLength, totalLength);
    binding.bindInput(decoderInputs.picked, pickedPositions);
    binding.bindOutput(decoderOutputs.reward, scores);
    const { kv } = this.#decoder.graph;
    const shape = kvShape(kv, rows, time);
    for (let layer = 0; layer < kv.layers; layer++) {
      const keys = (this.#keysAndValues[2 * layer] as DeviceTensor).view(shape);
      const values = (this.#keysAndValues[2 * layer + 1] as DeviceTensor).view(shape);
      binding.bindInput(pastKeyName(layer), keys);
      binding.bindInput(pastValueName(layer), values);
      binding.bindOutput(presentKeyName(layer), keys);
      binding.bindOutput(presentValueName(layer), values);
    }
    binding.run();
    const result = new Float32Array(picked.length);
    scores.read(result);
    return result;
  }
}

/** Scores of all rows' positions, row by row, back into rows. */
function split(scores: Float32Array, batch: readonly ScoreRow[]): HeadOutputs[] {
  const bad = scores.findIndex((score) => !Number.isFinite(score));
  if (bad >= 0) {
    throw new AppError(
      'runtime_failed',
      `The reward head gave ${scores[bad]}; check the checkpoint's weights.`,
    );
  }
  let at = 0;
  return batch.map(({ tokens, positions }) => {
    const length = positions === 'all' ? tokens.length : 1;
    at += length;
    return [...scores.subarray(at - length, at)];
  });
}
