/** Rotary position encoding: its parameters in config.json, its frequencies and its tables. */
import {
  broken,
  isObject,
  type Json,
  positiveInteger,
  positiveNumber,
  unsupported,
} from './config-values.js';

/** How far each rotary frequency is stretched. Sources: Hugging Face's modeling_rope_utils. */
export type RotaryScaling =
  | { readonly kind: 'none' }
  /** Positions divided by a factor. */
  | { readonly kind: 'linear'; readonly factor: number }
  /** Llama 3.1: low frequencies divided by the factor, high ones kept, those between blended. */
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalContext: number;
    };

export interface Rotary {
  readonly kind: 'rotary';
  readonly theta: number;
  readonly scaling: RotaryScaling;
}

/** Rotary parameters under their new key (rope_parameters, transformers 5) or the old ones (rope_theta, rope_scaling). */
export function parseRotary(json: Json): Rotary {
  const parameters = isObject(json.rope_parameters) ? json.rope_parameters : {};
  if (Object.values(parameters).some(isObject)) {
    throw unsupported('rope_parameters', parameters, 'one rotary encoding for all layers');
  }
  const old = isObject(json.rope_scaling) ? json.rope_scaling : {};
  const rope: Json = { ...old, ...parameters };
  const partial = rope.partial_rotary_factor ?? 1;
  if (partial !== 1) throw unsupported('partial_rotary_factor', partial, 'rotation of whole heads');
  const theta = positiveNumber(rope, 'rope_theta', positiveNumber(json, 'rope_theta', 10_000));
  return { kind: 'rotary', theta, scaling: parseScaling(rope, json) };
}

function parseScaling(rope: Json, json: Json): RotaryScaling {
  const kind = rope.rope_type ?? rope.type ?? 'default';
  if (kind === 'default') return { kind: 'none' };
  // Hugging Face recomputes the base only beyond max_position_embeddings, where this service never goes.
  if (kind === 'dynamic') return { kind: 'none' };
  if (kind === 'linear') return { kind: 'linear', factor: positiveNumber(rope, 'factor') };
  if (kind === 'llama3') {
    const lowFrequencyFactor = positiveNumber(rope, 'low_freq_factor');
    const highFrequencyFactor = positiveNumber(rope, 'high_freq_factor');
    if (highFrequencyFactor <= lowFrequencyFactor) {
      throw broken(
        'high_freq_factor',
        highFrequencyFactor,
        `a number over low_freq_factor (${lowFrequencyFactor})`,
      );
    }
    return {
      kind: 'llama3',
      factor: positiveNumber(rope, 'factor'),
      lowFrequencyFactor,
      highFrequencyFactor,
      originalContext: positiveInteger(
        rope,
        'original_max_position_embeddings',
        positiveInteger(json, 'max_position_embeddings'),
      ),
    };
  }
  throw unsupported('rope_type', kind, 'default, linear, dynamic and llama3');
}

/** Radians a position of each pair of a head's elements: [headDim / 2]. */
export function rotaryFrequencies({ theta, scaling }: Rotary, headDim: number): Float64Array {
  return Float64Array.from({ length: headDim / 2 }, (_, pair) =>
    scaleFrequency(theta ** (-(2 * pair) / headDim), scaling),
  );
}

function scaleFrequency(frequency: number, scaling: RotaryScaling): number {
  if (scaling.kind === 'none') return frequency;
  if (scaling.kind === 'linear') return frequency / scaling.factor;
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalContext } = scaling;
  const turns = (originalContext * frequency) / (2 * Math.PI);
  if (turns > highFrequencyFactor) return frequency;
  if (turns < lowFrequencyFactor) return frequency / factor;
  const kept = (turns - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  return ((1 - kept) * frequency) / factor + kept * frequency;
}

export interface RotaryTables {
  /** Both [positions, headDim / 2]. */
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/** Angles are multiplied in float32, as PyTorch does, so that long contexts agree with it. */
export function rotaryTables(rotary: Rotary, headDim: number, positions: number): RotaryTables {
  const frequencies = rotaryFrequencies(rotary, headDim);
  const pairs = frequencies.length;
  const cos = new Float32Array(positions * pairs);
  const sin = new Float32Array(positions * pairs);
  for (let position = 0; position < positions; position++) {
    for (let pair = 0; pair < pairs; pair++) {
      const angle = Math.fround(position * Math.fround(frequencies[pair] as number));
      cos[position * pairs + pair] = Math.cos(angle);
      sin[position * pairs + pair] = Math.sin(angle);
    }
  }
  return { cos, sin };
}
