/**
 * The graph as data: values with an element type and named axes, nodes with a literal `kind`, all frozen. Ops (ops/) make nodes through a
 * builder, verify.ts checks a whole graph again by the same rules, onnx.ts writes it; the training code differentiates it.
 */
import type { ElementType } from '../runtime/session.js';
import type { Axes, Extent, OpAttributes, OpKind } from './op-attributes.js';

export type { ElementType } from '../runtime/session.js';
export type { Axes, Extent, OpAttributes, OpKind } from './op-attributes.js';

export type FloatType = 'float32' | 'float16' | 'bfloat16';
export type IndexType = 'int64' | 'int32';

/** What an op's rule sees of a value, and what it says of a result. */
export interface Signature<E extends ElementType = ElementType, A extends Axes = Axes> {
  readonly type: E;
  readonly axes: A;
  /** One extent an axis. */
  readonly extents: readonly Extent[];
}

/**
 * A tensor in a graph: `Value<'float32', readonly ['rows', 'time', 'model']>`. A dynamic axis's name stands for one extent in a whole
 * graph (it becomes ONNX's dim_param); known extents belong to the value, so two models in a graph may differ in `model`.
 */
export interface Value<E extends ElementType = ElementType, A extends Axes = Axes> extends Signature<E, A> {
  /** Dotted, unique in its graph. */
  readonly name: string;
  /** The builder that made it; a value of another builder is refused. */
  readonly graph: NodeSink;
}

/** Where ops put their nodes: the builder. */
export interface NodeSink {
  /** Appends a node; its outputs are what the kind's rule says. */
  emit<K extends OpKind>(
    kind: K,
    inputs: readonly (Value | null)[],
    attributes: OpAttributes[K],
  ): readonly Value[];
  /** A cached constant; scalar where `values` is a number. */
  constant<E extends ElementType, const A extends Axes>(
    type: E,
    values: readonly number[] | number,
    axes?: A,
  ): Value<E, A>;
  /** Extent declared for an axis name, undefined where there is none. */
  extent(axis: string): Extent | undefined;
}

/** A node of one kind; `AnyNode` is the union over all, told apart by `kind`. */
export interface Node<K extends OpKind = OpKind> {
  readonly kind: K;
  readonly name: string;
  /** null: an optional input left out. */
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly Value[];
  readonly attributes: OpAttributes[K];
}
export type AnyNode = { [K in OpKind]: Node<K> }[OpKind];

/** A value known when the graph is built: a few numbers in row-major order. What is large is a parameter. */
export interface Constant {
  readonly value: Value;
  readonly numbers: readonly number[];
}

export interface Output {
  /** The graph's name for it; the value keeps its own. */
  readonly name: string;
  readonly value: Value;
}

export interface Graph {
  readonly name: string;
  readonly inputs: readonly Value[];
  /** Weights by name. Whoever writes the graph decides whether they are initializers or inputs. */
  readonly parameters: readonly Value[];
  readonly constants: readonly Constant[];
  /** In topological order. */
  readonly nodes: readonly AnyNode[];
  readonly outputs: readonly Output[];
}

/** `[rows, time, model=576]` */
export const describeAxes = ({ axes, extents }: Signature): string =>
  `[${axes.map((axis, at) => (extents[at] === null || axis === '1' ? axis : `${axis}=${extents[at]}`)).join(', ')}]`;

/** `float32[rows, time, model=576]` */
export const describe = (signature: Signature): string => `${signature.type}${describeAxes(signature)}`;

const describeAttributes = (attributes: object): string => {
  const entries = Object.entries(attributes).filter(([, value]) => value !== null);
  return entries.length === 0
    ? ''
    : ` {${entries.map(([key, value]) => `${key}: ${JSON.stringify(value).replaceAll('"', '')}`).join(', ')}}`;
};

const describeNode = (node: AnyNode): string => {
  const results = node.outputs.map((value) => `${value.name}: ${describe(value)}`).join(', ');
  const operands = node.inputs.map((value) => (value === null ? '-' : `${value.name}${describeAxes(value)}`));
  return `${results} = ${node.kind}(${operands.join(', ')})${describeAttributes(node.attributes)}`;
};

/** The graph as text, a line a node: results with types and axes, op, operands with axes, attributes. */
export function dump(graph: Graph): string {
  const lines = [
    `graph ${graph.name}`,
    ...graph.inputs.map((value) => `  input ${value.name}: ${describe(value)}`),
    ...graph.parameters.map((value) => `  parameter ${value.name}: ${describe(value)}`),
    ...graph.constants.map(
      ({ value, numbers }) => `  constant ${value.name}: ${describe(value)} = ${numbers.join(' ')}`,
    ),
    ...graph.nodes.map((node) => `  ${describeNode(node)}`),
    ...graph.outputs.map(({ name, value }) => `  output ${name}: ${describe(value)} = ${value.name}`),
  ];
  return `${lines.join('\n')}\n`;
}
