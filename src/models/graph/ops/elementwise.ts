/** Ops that work an element at a time. Binary ops broadcast by axis name; a number stands for a cached scalar of the other side's type. */
import { type Aligned, type Broadcast, emitOne, type Renamed } from '../axes.js';
import type { Axes, ElementType, FloatType, Signature, Value } from '../ir.js';
import type { BinaryAttributes, UnaryAttributes } from '../op-attributes.js';
import {
  broadcast,
  expectType,
  operand,
  type Rule,
  type RulesOf,
  refuse,
  sameType,
  signature,
} from '../rule.js';

type Unary = <E extends ElementType, A extends Axes>(x: Value<E, A>) => Value<E, A>;
type FloatUnary = <E extends FloatType, A extends Axes>(x: Value<E, A>) => Value<E, A>;
type Predicate = <A extends Axes>(x: Value<FloatType, A>) => Value<'bool', A>;

interface Arithmetic {
  <E extends ElementType, A extends Axes>(
    left: Value<E, A>,
    right: Value<NoInfer<E>, NoInfer<A>> | number,
  ): Value<E, A>;
  <E extends ElementType, A extends Axes>(left: number, right: Value<E, A>): Value<E, A>;
  // A vector over the last axis, said apart so that blocks generic in the axes before it need no cast.
  <E extends ElementType, L extends Axes, K extends string>(
    left: Value<E, readonly [...L, K]>,
    right: Value<NoInfer<E>, readonly [NoInfer<K>]>,
  ): Value<E, readonly [...L, K]>;
  <E extends ElementType, L extends Axes, R extends Axes>(
    left: Value<E, L>,
    right: Value<NoInfer<E>, R> & Aligned<L, R>,
  ): Value<E, Broadcast<L, R>>;
}

interface Comparison {
  <E extends ElementType, A extends Axes>(
    left: Value<E, A>,
    right: Value<NoInfer<E>, NoInfer<A>> | number,
  ): Value<'bool', A>;
  <E extends ElementType, L extends Axes, R extends Axes>(
    left: Value<E, L>,
    right: Value<NoInfer<E>, R> & Aligned<L, R>,
  ): Value<'bool', Broadcast<L, R>>;
}

type Logic = <L extends Axes, R extends Axes>(
  left: Value<'bool', L>,
  right: Value<'bool', R> & Aligned<L, R>,
) => Value<'bool', Broadcast<L, R>>;

type PlainUnary = Exclude<keyof UnaryAttributes, 'Clip' | 'Cast' | 'Identity' | 'QuickGelu'>;

const unary = (kind: PlainUnary) => (x: Value) => emitOne(x.graph, kind, [x], {});

const binary =
  (kind: Exclude<keyof BinaryAttributes, 'Where'>) => (left: Value | number, right: Value | number) => {
    const value = typeof left === 'number' ? (right as Value) : left;
    const lift = (side: Value | number) =>
      typeof side === 'number' ? value.graph.constant(value.type, side, []) : side;
    return emitOne(value.graph, kind, [lift(left), lift(right)], {});
  };

export const neg = unary('Neg') as Unary;
export const abs = unary('Abs') as Unary;
export const sign = unary('Sign') as Unary;
export const sqrt = unary('Sqrt') as FloatUnary;
export const reciprocal = unary('Reciprocal') as FloatUnary;
export const exp = unary('Exp') as FloatUnary;
export const log = unary('Log') as FloatUnary;
export const sigmoid = unary('Sigmoid') as FloatUnary;
export const tanh = unary('Tanh') as FloatUnary;
export const erf = unary('Erf') as FloatUnary;
/** log(1 + exp(x)) */
export const softplus = unary('Softplus') as FloatUnary;
export const gelu = unary('Gelu') as FloatUnary;
export const isNotANumber = unary('IsNaN') as Predicate;
export const isInfinite = unary('IsInf') as Predicate;
export const not = unary('Not') as <A extends Axes>(x: Value<'bool', A>) => Value<'bool', A>;

export const add = binary('Add') as Arithmetic;
export const sub = binary('Sub') as Arithmetic;
export const mul = binary('Mul') as Arithmetic;
export const div = binary('Div') as Arithmetic;
export const pow = binary('Pow') as Arithmetic;
export const min = binary('Min') as Arithmetic;
export const max = binary('Max') as Arithmetic;
export const equal = binary('Equal') as Comparison;
export const less = binary('Less') as Comparison;
export const lessOrEqual = binary('LessOrEqual') as Comparison;
export const greater = binary('Greater') as Comparison;
export const greaterOrEqual = binary('GreaterOrEqual') as Comparison;
export const and = binary('And') as Logic;
export const or = binary('Or') as Logic;

/** x sigmoid(alpha x): 1 is SiLU, 1.702 is CLIP's. */
export const quickGelu = <E extends FloatType, A extends Axes>(x: Value<E, A>, alpha: number): Value<E, A> =>
  emitOne(x.graph, 'QuickGelu', [x], { alpha });

/** Gelu by the tanh approximation (Hugging Face's gelu_new), of x + bias where a bias is given. */
export const fastGelu = <E extends FloatType, L extends Axes, K extends string>(
  x: Value<E, readonly [...L, K]>,
  bias?: Value<NoInfer<E>, readonly [NoInfer<K>]>,
): Value<E, readonly [...L, K]> => emitOne(x.graph, 'FastGelu', bias === undefined ? [x] : [x, bias], {});

export const biasGelu = <E extends FloatType, L extends Axes, K extends string>(
  x: Value<E, readonly [...L, K]>,
  bias: Value<NoInfer<E>, readonly [NoInfer<K>]>,
): Value<E, readonly [...L, K]> => emitOne(x.graph, 'BiasGelu', [x, bias], {});

export const clip = <E extends ElementType, A extends Axes>(
  x: Value<E, A>,
  range: UnaryAttributes['Clip'],
): Value<E, A> => emitOne(x.graph, 'Clip', [x], range);

/** A cast to the type it has already makes no node. */
export const cast = <E extends ElementType, A extends Axes>(x: Value<ElementType, A>, to: E): Value<E, A> =>
  x.type === to ? (x as Value<E, A>) : emitOne(x.graph, 'Cast', [x], { to });

/** The same tensor under other axis names: `rename(x, { time: 'keys' })`. */
export const rename = <
  E extends ElementType,
  A extends Axes,
  const M extends Readonly<Partial<Record<A[number], string>>>,
>(
  x: Value<E, A>,
  names: M,
): Value<E, Renamed<A, M & Readonly<Record<string, string>>>> => {
  const map: Readonly<Record<string, string | undefined>> = names;
  return emitOne(x.graph, 'Identity', [x], { axes: x.axes.map((axis) => map[axis] ?? axis) });
};

/** `condition ? left : right`, element by element; all three broadcast. A number takes the other branch's type. */
export function where<E extends ElementType, C extends Axes, L extends Axes, R extends Axes>(
  condition: Value<'bool', C>,
  left: Value<E, L> & Aligned<C, L>,
  right: (Value<NoInfer<E>, R> & Aligned<Broadcast<C, L>, R>) | number,
): Value<E, Broadcast<Broadcast<C, L>, R>> {
  const other = typeof right === 'number' ? left.graph.constant(left.type, right, []) : right;
  return emitOne(left.graph, 'Where', [condition, left, other], {});
}

const floats: readonly ElementType[] = ['float32', 'float16', 'bfloat16'];
const numbers: readonly ElementType[] = [...floats, 'int64', 'int32', 'int8', 'uint8'];

const like = (x: Signature, type: ElementType = x.type) => [signature(type, x.axes, x.extents)];

const unaryOf =
  (types: readonly ElementType[], to?: ElementType): Rule =>
  (inputs) => {
    const x = operand(inputs, 0);
    expectType(x, ...types);
    return like(x, to);
  };

const binaryOf =
  (types: readonly ElementType[], to?: ElementType): Rule =>
  (inputs) => {
    const left = operand(inputs, 0);
    const right = operand(inputs, 1);
    expectType(left, ...types);
    sameType(left, right);
    const { axes, extents } = broadcast(left, right);
    return [signature(to ?? left.type, axes, extents)];
  };

/** The bias has the activations' last axis alone. */
const biased: Rule<'BiasGelu' | 'FastGelu'> = (inputs) => {
  const x = operand(inputs, 0);
  expectType(x, ...floats);
  const bias = inputs[1];
  if (bias) {
    sameType(x, bias);
    broadcast(x, bias);
    if (bias.axes.length !== 1) refuse('the bias has more than one axis', 'use add and a plain gelu');
  }
  return like(x);
};

export const elementwiseRules: RulesOf<UnaryAttributes & BinaryAttributes> = {
  Neg: unaryOf(numbers),
  Abs: unaryOf(numbers),
  Sign: unaryOf(numbers),
  Sqrt: unaryOf(floats),
  Reciprocal: unaryOf(floats),
  Exp: unaryOf(floats),
  Log: unaryOf(floats),
  Sigmoid: unaryOf(floats),
  Tanh: unaryOf(floats),
  Erf: unaryOf(floats),
  Softplus: unaryOf(floats),
  Gelu: unaryOf(floats),
  QuickGelu: unaryOf(floats),
  Clip: unaryOf(numbers),
  Not: unaryOf(['bool']),
  IsNaN: unaryOf(floats, 'bool'),
  IsInf: unaryOf(floats, 'bool'),
  Cast: (inputs, { to }) => like(operand(inputs, 0), to),
  Identity: (inputs, { axes }) => {
    const x = operand(inputs, 0);
    if (axes.length !== x.axes.length)
      refuse('a rename keeps the number of axes', 'use squeeze or unsqueeze');
    return [signature(x.type, axes, x.extents)];
  },
  Add: binaryOf(numbers),
  Sub: binaryOf(numbers),
  Mul: binaryOf(numbers),
  Div: binaryOf(numbers),
  Pow: binaryOf(numbers),
  Min: binaryOf(numbers),
  Max: binaryOf(numbers),
  Equal: binaryOf([...numbers, 'bool'], 'bool'),
  Less: binaryOf(numbers, 'bool'),
  LessOrEqual: binaryOf(numbers, 'bool'),
  Greater: binaryOf(numbers, 'bool'),
  GreaterOrEqual: binaryOf(numbers, 'bool'),
  And: binaryOf(['bool']),
  Or: binaryOf(['bool']),
  BiasGelu: biased,
  FastGelu: biased,
  Where: (inputs) => {
    const condition = operand(inputs, 0);
    const left = operand(inputs, 1);
    const right = operand(inputs, 2);
    expectType(condition, 'bool');
    sameType(left, right);
    const part = broadcast(condition, left);
    const { axes, extents } = broadcast({ type: left.type, ...part }, right);
    return [signature(left.type, axes, extents)];
  },
};
