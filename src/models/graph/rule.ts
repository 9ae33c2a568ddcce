/** What rules of all op families share: how a rule says no, and how axes meet. */
import { AppError } from '../../core/errors.js';
import type { Axes, ElementType, Extent, OpAttributes, OpKind, Signature } from './ir.js';
import { describe, describeAxes } from './ir.js';

/** From the operands' types and axes to those of every result, or a refusal. Used when a node is made and again by verify.ts. */
export type Rule<K extends OpKind = OpKind> = (
  inputs: readonly (Signature | null)[],
  attributes: OpAttributes[K],
) => readonly Signature[];

export type RulesOf<Kinds> = { readonly [K in keyof Kinds & OpKind]: Rule<K> };

/** A rule says no: AppError `graph_invalid` with the reason and the way out. `applyRule` adds the node and its operands. */
export function refuse(reason: string, fix: string): never {
  throw new AppError('graph_invalid', `${reason}; ${fix}`);
}

/** Applies a kind's rule at a node; a refusal names the node and shows its operands. */
export function applyRule<K extends OpKind>(
  rule: Rule<K>,
  node: { readonly kind: K; readonly name: string; readonly inputs: readonly (Signature | null)[] },
  attributes: OpAttributes[K],
): readonly Signature[] {
  try {
    return rule(node.inputs, attributes);
  } catch (thrown) {
    if (!(thrown instanceof AppError) || thrown.code !== 'graph_invalid') throw thrown;
    const operands = node.inputs.map((value) => (value === null ? '-' : describe(value))).join(', ');
    throw new AppError('graph_invalid', `${node.kind} at ${node.name} of (${operands}): ${thrown.message}`, {
      param: node.name,
      cause: thrown,
    });
  }
}

/** The operand at an index that the op cannot do without. */
export function operand(inputs: readonly (Signature | null)[], at: number): Signature {
  return inputs[at] ?? refuse(`operand ${at} is missing`, 'pass it');
}

export function sameType(first: Signature, ...rest: readonly (Signature | null | undefined)[]): void {
  const other = rest.find((value) => value !== null && value !== undefined && value.type !== first.type);
  if (other) refuse(`element types differ: ${first.type} and ${other.type}`, 'cast one of them');
}

export function expectType(value: Signature, ...types: readonly ElementType[]): void {
  if (!types.includes(value.type)) refuse(`${value.type} where ${types.join(' or ')} is needed`, 'cast it');
}

export function expectRank(value: Signature, rank: number, meaning: string): void {
  if (value.axes.length !== rank)
    refuse(`${meaning} has ${rank} axes, not ${describeAxes(value)}`, 'reshape it');
}

/** Position of an axis by name. */
export function axisAt(value: Signature, axis: string): number {
  const at = value.axes.indexOf(axis);
  if (at < 0) refuse(`no axis '${axis}' in ${describeAxes(value)}`, 'name one of those axes');
  return at;
}

export const extentOf = (value: Signature, axis: string): Extent => value.extents[axisAt(value, axis)]!;

/** One extent from two uses of an axis: a known one wins over a dynamic one. */
export function meet(axis: string, left: Extent, right: Extent): Extent {
  if (left !== null && right !== null && left !== right)
    refuse(`axis '${axis}' has extent ${left} here and ${right} there`, 'rename one of the two axes');
  return left ?? right;
}

/** Axes equal in name, order and extent. */
export function sameAxes(left: Signature, right: Signature): readonly Extent[] {
  if (left.axes.length !== right.axes.length || left.axes.some((axis, at) => axis !== right.axes[at]))
    refuse(
      `axes differ: ${describeAxes(left)} and ${describeAxes(right)}`,
      'transpose or rename one of them',
    );
  return left.axes.map((axis, at) => meet(axis, left.extents[at]!, right.extents[at]!));
}

export function signature<E extends ElementType>(
  type: E,
  axes: Axes,
  extents: readonly Extent[],
): Signature<E> {
  const twice = axes.find((axis, at) => axis !== '1' && axes.indexOf(axis) !== at);
  if (twice !== undefined)
    refuse(`axis '${twice}' would occur twice in [${axes.join(', ')}]`, 'rename it in one operand');
  return { type, axes, extents };
}

/** Two values aligned at their last axes; equal names, or '1' against any. This is ONNX's broadcast where the names agree. */
export function broadcast(left: Signature, right: Signature): { axes: Axes; extents: readonly Extent[] } {
  const rank = Math.max(left.axes.length, right.axes.length);
  const axes: string[] = [];
  const extents: Extent[] = [];
  for (let at = 0; at < rank; at++) {
    const i = at - (rank - left.axes.length);
    const j = at - (rank - right.axes.length);
    const a = left.axes[i];
    const b = right.axes[j];
    if (a !== undefined && b !== undefined && a !== b && a !== '1' && b !== '1')
      refuse(
        `axes ${describeAxes(left)} and ${describeAxes(right)} do not line up: '${a}' meets '${b}'`,
        `align one to the other's axes (unsqueeze puts '1' where an axis is missing), transpose it, or rename it`,
      );
    if (a === b && a !== undefined) {
      axes.push(a);
      extents.push(meet(a, left.extents[i]!, right.extents[j]!));
    } else if (a === undefined || (a === '1' && b !== undefined)) {
      axes.push(b!);
      extents.push(right.extents[j]!);
    } else {
      axes.push(a);
      extents.push(left.extents[i]!);
    }
  }
  return { axes, extents };
}
