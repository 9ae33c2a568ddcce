/** What the numeric tests of all op families share: seeded operands and plain loops over indices. */
import { Rng } from '../../../../src/core/rng.js';
import type { GraphBuilder } from '../../../../src/models/graph/builder.js';
import type { ElementType, Value } from '../../../../src/models/graph/ir.js';
import type { Feed } from './run-graph.js';

/** A small graph around one op, and what its outputs should be by a plain reading of the op's definition. */
export interface Example {
  readonly what: string;
  readonly axes: Readonly<Record<string, number | 'dynamic'>>;
  readonly feeds: Readonly<Record<string, Feed>>;
  readonly build: (g: GraphBuilder) => readonly Value[];
  readonly expected: readonly (readonly number[])[];
  /** Largest difference, relative to the largest expected number. */
  readonly tolerance?: number;
}

const size = (shape: readonly number[]): number => shape.reduce((n, extent) => n * extent, 1);

/** Standard normal numbers, the same for the same seed. */
export function normal(seed: number, shape: readonly number[], scale = 1): Feed {
  const rng = new Rng(seed);
  return {
    type: 'float32',
    shape,
    data: Array.from({ length: size(shape) }, () => Math.fround(rng.normal() * scale)),
  };
}

export const feed = (type: ElementType, shape: readonly number[], data: readonly number[]): Feed => ({
  type,
  shape,
  data,
});

/** A tensor made by a function of its indices. */
export function tensorOf(shape: readonly number[], at: (...index: number[]) => number): number[] {
  return Array.from({ length: size(shape) }, (_, flat) => {
    let rest = flat;
    const index = shape.toReversed().map((extent) => {
      const place = rest % extent;
      rest = Math.floor(rest / extent);
      return place;
    });
    return at(...index.reverse());
  });
}

/** Reads a feed by indices. */
export const read =
  ({ shape, data }: Feed) =>
  (...index: number[]): number =>
    data[index.reduce((flat, place, axis) => flat * shape[axis]! + place, 0)]!;

export const sum = (count: number, term: (i: number) => number): number => {
  let total = 0;
  for (let i = 0; i < count; i++) total += term(i);
  return total;
};
