/**
 * Builds a graph. Axes are declared once with their extents; scopes give dotted names; ops (ops.ts) are plain functions of values, each
 * node is checked by its kind's rule as it is made, and `build` verifies the whole.
 *
 * @example
 * const g = new GraphBuilder('mlp', { rows: 'dynamic', time: 'dynamic', model: 576, ffn: 1536 });
 * const x = g.input('hidden', 'float32', ['rows', 'time', 'model']);
 * const y = g.scope('layers.0.mlp', () => {
 *   const gate = matmul(x, g.parameter('gate', 'float32', ['model', 'ffn'])); // weight 'layers.0.mlp.gate'
 *   const up = matmul(x, g.parameter('up', 'float32', ['model', 'ffn']));
 *   return matmul(mul(quickGelu(gate, 1), up), g.parameter('down', 'float32', ['ffn', 'model']));
 * });
 * g.output('hidden_next', add(x, y));
 * const bytes = encodeModel(g.build()); // onnx.ts
 */
import { AppError } from '../../core/errors.js';
import type {
  AnyNode,
  Axes,
  Constant,
  ElementType,
  Extent,
  Graph,
  NodeSink,
  OpAttributes,
  OpKind,
  Output,
  Signature,
  Value,
} from './ir.js';
import { describeAxes } from './ir.js';
import { opRules } from './op-rules.js';
import { applyRule, type Rule, refuse, signature } from './rule.js';
import { verify } from './verify.js';

/** Axis name -> extent. */
export type AxisExtents = Readonly<Record<string, number | 'dynamic'>>;

export class GraphBuilder implements NodeSink {
  readonly name: string;
  #axes: AxisExtents;
  #scope = '';
  readonly #names = new Set<string>();
  /** How many names of a stem are taken, so that the next free suffix is found at once. */
  readonly #stems = new Map<string, number>();
  readonly #inputs: Value[] = [];
  readonly #parameters = new Map<string, Value>();
  readonly #constants = new Map<string, Constant>();
  readonly #nodes: AnyNode[] = [];
  readonly #outputs: Output[] = [];

  constructor(name: string, axes: AxisExtents) {
    this.name = name;
    this.#axes = axes;
  }

  /**
   * Names made inside `body` start with `name`, dotted, under the scopes around it.
   * @param axes Extents that hold inside, over those of the builder: for a second model of another width.
   */
  scope<T>(name: string, body: () => T, axes: AxisExtents = {}): T {
    const [scope, outer] = [this.#scope, this.#axes];
    this.#scope = this.#dotted(name);
    this.#axes = { ...outer, ...axes };
    try {
      return body();
    } finally {
      this.#scope = scope;
      this.#axes = outer;
    }
  }

  /** An input of the graph under exactly this name, whatever the scope. */
  input<E extends ElementType, const A extends Axes>(name: string, type: E, axes: A): Value<E, A> {
    const value = this.#value(this.#claim(name), this.#declared(type, axes)) as Value<E, A>;
    this.#inputs.push(value);
    return value;
  }

  /** A weight, named in the scope. The same name, type and axes again are the same weight (tied embeddings). */
  parameter<E extends ElementType, const A extends Axes>(name: string, type: E, axes: A): Value<E, A> {
    const full = this.#dotted(name);
    const declared = this.#declared(type, axes);
    const before = this.#parameters.get(full);
    if (before === undefined) {
      const value = this.#value(this.#claim(full), declared);
      this.#parameters.set(full, value);
      return value as Value<E, A>;
    }
    if (before.type !== type || describeAxes(before) !== describeAxes(declared))
      refuse(
        `parameter ${full} is ${describeAxes(before)} already, not ${describeAxes(declared)}`,
        'rename one',
      );
    return before as Value<E, A>;
  }

  /** Cached by content. One axis takes the extent of the list; several take the declared ones. */
  constant<E extends ElementType, const A extends Axes = readonly []>(
    type: E,
    values: readonly number[] | number,
    axes?: A,
  ): Value<E, A> {
    const list = typeof values === 'number' ? [values] : values;
    const names: Axes = axes ?? [];
    const extents = names.length === 1 ? [list.length] : names.map((axis) => this.#extent(axis));
    if (extents.reduce<number>((n, extent) => n * (extent ?? Number.NaN), 1) !== list.length)
      refuse(`${list.length} numbers for a constant [${names.join(', ')}]`, 'give as many as its axes hold');
    const key = `${type} ${names} ${list.map((value) => (Object.is(value, -0) ? '-0' : value))}`;
    const before = this.#constants.get(key);
    if (before !== undefined) return before.value as Value<E, A>;
    const value = this.#value(this.#claim('constant', 'numbered'), signature(type, names, extents));
    this.#constants.set(key, Object.freeze({ value, numbers: Object.freeze([...list]) }));
    return value as Value<E, A>;
  }

  /** Makes a value an output under this name. */
  output(name: string, value: Value): void {
    this.#own(value, `output ${name}`);
    if (this.#outputs.some((output) => output.name === name))
      refuse(`output ${name} is there already`, 'rename it');
    this.#outputs.push(Object.freeze({ name, value }));
  }

  extent(axis: string): Extent | undefined {
    const extent = this.#axes[axis];
    return extent === 'dynamic' ? null : extent;
  }

  emit<K extends OpKind>(
    kind: K,
    inputs: readonly (Value | null)[],
    attributes: OpAttributes[K],
  ): readonly Value[] {
    const name = this.#claim(this.#dotted(kind), 'numbered');
    for (const value of inputs) if (value !== null) this.#own(value, `${kind} at ${name}`);
    const results = applyRule(opRules[kind] as Rule<K>, { kind, name, inputs }, attributes);
    const outputs = results.map((result, at) =>
      this.#value(results.length === 1 ? name : this.#claim(`${name}.${at}`), result),
    );
    const node = {
      kind,
      name,
      inputs: Object.freeze([...inputs]),
      outputs: Object.freeze(outputs),
      attributes,
    };
    this.#nodes.push(Object.freeze(node) as unknown as AnyNode);
    return outputs;
  }

  /** Weights asked for so far. */
  get parameters(): readonly Value[] {
    return [...this.#parameters.values()];
  }

  /** Nodes made so far, in topological order: what a derivative walks. */
  get nodes(): readonly AnyNode[] {
    return this.#nodes;
  }

  /** The graph so far, verified. Throws AppError `graph_invalid`. */
  build(): Graph {
    const graph: Graph = Object.freeze({
      name: this.name,
      inputs: Object.freeze([...this.#inputs]),
      parameters: Object.freeze([...this.#parameters.values()]),
      constants: Object.freeze([...this.#constants.values()]),
      nodes: Object.freeze([...this.#nodes]),
      outputs: Object.freeze([...this.#outputs]),
    });
    verify(graph);
    return graph;
  }

  #dotted(name: string): string {
    return this.#scope === '' ? name : `${this.#scope}.${name}`;
  }

  #extent(axis: string): Extent {
    if (axis === '1') return 1;
    const extent = this.extent(axis);
    if (extent === undefined) refuse(`axis '${axis}' is not declared`, "add it to the builder's axes");
    return extent;
  }

  #declared(type: ElementType, axes: Axes): Signature {
    return signature(
      type,
      axes,
      axes.map((axis) => this.#extent(axis)),
    );
  }

  #value(name: string, { type, axes, extents }: Signature): Value {
    const value = { name, type, axes: Object.freeze([...axes]), extents: Object.freeze([...extents]) };
    // Not enumerable: printing or comparing a value must not walk the builder.
    Object.defineProperty(value, 'graph', { value: this });
    return Object.freeze(value) as Value;
  }

  /** Takes a name; 'numbered' adds a suffix where it is taken, 'exact' refuses. */
  #claim(name: string, as: 'exact' | 'numbered' = 'exact'): string {
    if (as === 'exact') {
      if (this.#names.has(name)) refuse(`the name ${name} is taken`, 'choose another');
      this.#names.add(name);
      return name;
    }
    let count = this.#stems.get(name) ?? 0;
    let free = name;
    do {
      count++;
      free = count === 1 ? name : `${name}_${count}`;
    } while (this.#names.has(free));
    this.#stems.set(name, count);
    this.#names.add(free);
    return free;
  }

  #own(value: Value, place: string): void {
    if (value.graph !== this)
      throw new AppError(
        'graph_invalid',
        `${place} takes ${value.name} of another graph; build both in one`,
        {
          param: value.name,
        },
      );
  }
}
