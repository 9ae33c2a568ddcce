/** Axis rules of ops/shape.ts. */
import type { Axes, Extent, Signature } from '../ir.js';
import { describeAxes } from '../ir.js';
import type { ShapeAttributes } from '../op-attributes.js';
import {
  axisAt,
  expectRank,
  expectType,
  meet,
  operand,
  type Rule,
  type RulesOf,
  refuse,
  sameType,
  signature,
} from '../rule.js';

const product = (extents: readonly Extent[]): number =>
  extents.reduce<number>((n, extent) => n * (extent ?? 1), 1);

/** A dynamic axis that keeps its name at its position is copied from the input; only one more may be left to ONNX to work out. */
export const isCopied = (x: Signature, axes: Axes, at: number): boolean =>
  x.axes[at] === axes[at] && x.extents[at] === null;

const reshape: Rule<'Reshape'> = (inputs, { axes, extents }) => {
  const x = operand(inputs, 0);
  const to = `[${axes.map((axis, at) => `${axis}=${extents[at] ?? '?'}`).join(', ')}]`;
  const open = axes.filter((_, at) => extents[at] === null && !isCopied(x, axes, at));
  if (open.length > 1 && !inputs[1])
    refuse(`both '${open[0]}' and '${open[1]}' of ${to} are unknown`, "declare one in the builder's axes");
  const dynamic = (axis: string, at: number) => x.extents[at] === null && !axes.includes(axis);
  const exact = open.length === 0 && !x.axes.some(dynamic);
  if (exact && product(x.extents) !== product(extents))
    refuse(`${describeAxes(x)} has another number of elements than ${to}`, 'check the declared extents');
  if (extents.some((extent) => extent !== null && !Number.isInteger(extent)))
    refuse(`${describeAxes(x)} does not divide into ${to}`, 'check the declared extents');
  return [signature(x.type, axes, extents)];
};

const transpose: Rule<'Transpose'> = (inputs, { axes }) => {
  const x = operand(inputs, 0);
  if (axes.length !== x.axes.length || new Set(axes).size !== axes.length)
    refuse(`[${axes.join(', ')}] is not an order of ${describeAxes(x)}`, 'name each axis once');
  return [
    signature(
      x.type,
      axes,
      axes.map((axis) => x.extents[axisAt(x, axis)]!),
    ),
  ];
};

/** Positions in `longer` that are not in `shorter`, a subsequence of it by name. */
export function addedPositions(shorter: Axes, longer: Axes): readonly number[] {
  const added: number[] = [];
  let next = 0;
  for (const [at, axis] of longer.entries()) {
    const spare = longer.length - at > shorter.length - next;
    if (axis === shorter[next] && !(axis === '1' && spare && shorter[next + 1] === longer[at + 1])) next++;
    else added.push(at);
  }
  if (next < shorter.length)
    refuse(`[${shorter.join(', ')}] does not go in order into [${longer.join(', ')}]`, 'transpose first');
  return added;
}

const squeeze: Rule<'Squeeze'> = (inputs, { axes }) => {
  const x = operand(inputs, 0);
  const gone = addedPositions(axes, x.axes);
  const wide = gone.find((at) => x.extents[at] !== 1);
  if (wide !== undefined)
    refuse(`axis '${x.axes[wide]}' of ${describeAxes(x)} is not 1 long`, 'reduce or slice it');
  return [
    signature(
      x.type,
      axes,
      x.extents.filter((_, at) => !gone.includes(at)),
    ),
  ];
};

const unsqueeze: Rule<'Unsqueeze'> = (inputs, { axes }) => {
  const x = operand(inputs, 0);
  const added = addedPositions(x.axes, axes);
  const kept = x.extents.values();
  return [
    signature(
      x.type,
      axes,
      axes.map((_, at) => (added.includes(at) ? 1 : kept.next().value!)),
    ),
  ];
};

const expand: Rule<'Expand'> = (inputs, { axes, extents }) => {
  const x = operand(inputs, 0);
  const offset = axes.length - x.axes.length;
  for (const [at, axis] of x.axes.entries()) {
    if (axis === '1') continue;
    if (axis !== axes[at + offset])
      refuse(`${describeAxes(x)} does not line up with [${axes.join(', ')}]`, 'unsqueeze or transpose it');
    meet(axis, x.extents[at]!, extents[at + offset]!);
  }
  return [signature(x.type, axes, extents)];
};

const concat: Rule<'Concat'> = (inputs, { position, as }) => {
  const first = operand(inputs, 0);
  if (first.axes[position] === undefined)
    refuse(`no such axis in ${describeAxes(first)}`, 'name an axis of the first operand');
  let extents = first.extents.with(position, 0);
  for (const value of inputs) {
    if (value === null) refuse('an operand is missing', 'leave it out');
    sameType(first, value);
    expectRank(value, first.axes.length, `an operand of a join with ${describeAxes(first)}`);
    extents = extents.map((extent, at) => {
      if (at === position) {
        const more = value.extents[at]!;
        return extent === null || more === null ? null : extent + more;
      }
      if (value.axes[at] !== first.axes[at])
        refuse(
          `${describeAxes(first)} and ${describeAxes(value)} differ off the joined axis`,
          'transpose or rename',
        );
      return meet(first.axes[at]!, extent, value.extents[at]!);
    });
  }
  return [signature(first.type, first.axes.with(position, as), extents)];
};

const split: Rule<'Split'> = (inputs, { axis, into, extents }) => {
  const x = operand(inputs, 0);
  const at = axisAt(x, axis);
  const sum = extents.reduce((total, extent) => total + extent, 0);
  if (x.extents[at] !== null && x.extents[at] !== sum)
    refuse(`parts of ${sum} in all from ${describeAxes(x)}`, 'declare extents that add up');
  return into.map((name, part) =>
    signature(x.type, x.axes.with(at, name), x.extents.with(at, extents[part]!)),
  );
};

const slice: Rule<'Slice'> = (inputs, { axis, as, extent }) => {
  const x = operand(inputs, 0);
  const at = axisAt(x, axis);
  for (const bound of [operand(inputs, 1), operand(inputs, 2)]) expectType(bound, 'int64');
  if (as === axis) meet(axis, x.extents[at]!, extent);
  return [signature(x.type, x.axes.with(at, as), x.extents.with(at, extent))];
};

const shapeLike: Rule<'RandomUniformLike'> = (inputs, { type }) => {
  const x = operand(inputs, 0);
  return [signature(type, x.axes, x.extents)];
};

export const shapeRules: RulesOf<ShapeAttributes> = {
  Reshape: reshape,
  Transpose: transpose,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Expand: expand,
  Concat: concat,
  Split: split,
  Slice: slice,
  Shape: (inputs, { start, end }) => {
    const x = operand(inputs, 0);
    if (start < 0 || end > x.axes.length)
      refuse(`axes ${start} to ${end} of ${describeAxes(x)}`, 'name an axis');
    return [signature('int64', [end - start === 1 ? '1' : 'rank'], [end - start])];
  },
  ConstantOfShape: (inputs, { axes, extents, type }) => {
    expectType(operand(inputs, 0), 'int64');
    return [signature(type, axes, extents)];
  },
  Range: (inputs, { axis, extent }) => {
    const limit = operand(inputs, 1);
    expectType(limit, 'int64', 'int32', 'float32');
    sameType(limit, operand(inputs, 0), operand(inputs, 2));
    return [signature(limit.type, [axis], [extent])];
  },
  OneHot: (inputs, { axis, extent, type }) => {
    const indices = operand(inputs, 0);
    expectType(indices, 'int64', 'int32');
    return [signature(type, [...indices.axes, axis], [...indices.extents, extent])];
  },
  Trilu: (inputs) => {
    const x = operand(inputs, 0);
    if (x.axes.length < 2) refuse(`${describeAxes(x)} has no last two axes`, 'reshape it');
    return [signature(x.type, x.axes, x.extents)];
  },
  RandomUniformLike: shapeLike,
};
