/**
 * Residual dropout whose masks are fed, not drawn by the runtime: each factor is a hash of seed, step, example, place and element, so that
 * a resumed run, another number of threads and another split into micro-batches all drop the same.
 */
import type { GraphBuilder } from '../models/graph/builder.js';
import type { Value } from '../models/graph/ir.js';
import * as op from '../models/graph/ops.js';
import type { ModelConfig } from '../models/transformer/model-config.js';
import type { Feeds } from './batch-run.js';
import type { Residual } from './differentiable-decoder.js';

/** Attention and MLP of each layer join the residual stream. */
const placesOf = ({ layers }: ModelConfig): number => 2 * layers;

const inputName = (place: number): string => `dropout.${place}`;

/** Multiplies each branch by its own mask input before it joins the residual stream. */
export function dropoutResidual(g: GraphBuilder): Residual {
  let place = 0;
  return (branch) => {
    const mask = g.input(inputName(place++), 'float32', ['rows', 'time', 'model']);
    return op.mul(branch, mask as Value<'float32', readonly ['rows', 'time', 'model']>);
  };
}

export interface DropoutDraw {
  /** Share of elements set to 0, in (0, 1); those kept are divided by 1 - rate. */
  readonly rate: number;
  readonly seed: number;
  readonly step: number;
  /** A number for each row that stays the same however the batch is split: its example. */
  readonly rows: readonly number[];
  readonly time: number;
}

export function dropoutFeeds(config: ModelConfig, draw: DropoutDraw): Feeds {
  const feeds: Record<string, Feeds[string]> = {};
  const shape = [draw.rows.length, draw.time, config.hidden];
  for (let place = 0; place < placesOf(config); place++)
    feeds[inputName(place)] = {
      type: 'float32',
      shape,
      data: drawMask(draw, place, draw.time * config.hidden),
    };
  return feeds;
}

function drawMask({ rate, seed, step, rows }: DropoutDraw, place: number, elements: number): Float32Array {
  const mask = new Float32Array(rows.length * elements);
  const threshold = Math.round(rate * 2 ** 32);
  const kept = 1 / (1 - rate);
  for (const [row, example] of rows.entries()) {
    const key = [seed, step, example, place].reduce((hash, word) => mix((hash + GOLDEN) ^ word), 0);
    const from = row * elements;
    for (let i = 0; i < elements; i++)
      mask[from + i] = mix(key + Math.imul(i, GOLDEN)) >>> 0 < threshold ? 0 : kept;
  }
  return mask;
}

/** 2^32 divided by the golden ratio, odd. */
const GOLDEN = 0x9e3779b9;

/** MurmurHash3's finaliser: each bit of the input moves each bit of the result with probability close to a half. */
function mix(word: number): number {
  let hash = word | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
