/**
 * Gradient checkpointing (Chen et al. 2016): what a segment computed on the way forward is not kept; the backward walk computes it again
 * from the segment's inputs when it gets there.
 */
import type { GraphBuilder } from '../../models/graph/builder.js';
import type { AnyNode, Axes, Value } from '../../models/graph/ir.js';
import * as op from '../../models/graph/ops.js';

/** Name of the segment that a node belongs to; null: what it computes is kept. */
export type SegmentOf = (node: AnyNode) => string | null;

/** A decoder's layers, by the names that their scopes give to nodes. */
export const byLayer: SegmentOf = ({ name }) =>
  /^(.*?(?:model\.layers|transformer\.h)\.\d+)\./.exec(name)?.[1] ?? null;

type Float = Value<'float32', Axes>;

/** Twins of the nodes of segments, made when the backward walk first asks for one. */
export class Recomputation {
  readonly #builder: GraphBuilder;
  readonly #segmentOf: SegmentOf;
  readonly #nodes: readonly AnyNode[];
  readonly #isActive: (value: Value) => boolean;
  /** Segment -> its nodes' twins. */
  readonly #made = new Map<string, ReadonlyMap<AnyNode, AnyNode>>();

  /**
   * @param nodes    of the forward pass, in order
   * @param isActive whether a value depends on what is differentiated for
   */
  constructor(
    builder: GraphBuilder,
    segmentOf: SegmentOf,
    nodes: readonly AnyNode[],
    isActive: (value: Value) => boolean,
  ) {
    this.#builder = builder;
    this.#segmentOf = segmentOf;
    this.#nodes = nodes;
    this.#isActive = isActive;
  }

  /** The node to differentiate in place of this one. @param cotangent that has just reached it */
  twinOf(node: AnyNode, cotangent: Value): AnyNode {
    const segment = this.#segmentOf(node);
    if (segment === null) return node;
    const made = this.#made.get(segment) ?? this.#computeAgain(segment, cotangent);
    this.#made.set(segment, made);
    return made.get(node)!;
  }

  #computeAgain(segment: string, cotangent: Value): ReadonlyMap<AnyNode, AnyNode> {
    const own = this.#nodes.filter((node) => this.#segmentOf(node) === segment);
    const parameters = new Set(this.#builder.parameters);
    const again = new Map<Value, Value>();
    const inside = new Set(own.flatMap((node) => node.outputs));
    const twins = new Map<AnyNode, AnyNode>();
    const inputOf = (value: Value): Value => {
      const known = again.get(value);
      if (known !== undefined) return known;
      const isCarried = !inside.has(value) && this.#isActive(value) && !parameters.has(value);
      const found = isCarried ? after(value as Float, cotangent as Float) : value;
      again.set(value, found);
      return found;
    };
    for (const node of own) {
      const inputs = node.inputs.map((value) => (value === null ? null : inputOf(value)));
      const outputs = this.#builder.emit(node.kind, inputs, node.attributes as never);
      for (const [i, value] of node.outputs.entries()) again.set(value, outputs[i]!);
      twins.set(node, { ...node, inputs, outputs } as AnyNode);
    }
    return twins;
  }
}

/**
 * x itself, but not before the cotangent is there. Without this ONNX Runtime would run the second computation right behind the first, or
 * find that both are the same and keep the first one's values.
 */
const after = (x: Float, cotangent: Float): Float =>
  op.add(x, op.mul(op.reduceMax(cotangent, cotangent.axes), 0) as never) as Float;
