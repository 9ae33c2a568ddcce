import type { AnyNode, Graph } from '../../models/graph/ir.js';

/**
 * The same graph with the nodes that nothing else reads (the parameters' gradients) at its end, the first made last.
 *
 * ONNX Runtime runs nodes in the order of a depth-first search that starts from such nodes, the last of the model first. Left as the
 * backward walk makes them, the first layer's gradients come first: they need the whole chain of cotangents, and every other layer's
 * activations wait in memory until its own turn. In this order each layer's gradients are done, and its activations freed, as the walk
 * passes it.
 */
export function gradientsAsTheyComeDue(graph: Graph): Graph {
  const read = new Set(graph.nodes.flatMap(({ inputs }) => inputs));
  const isLeaf = ({ outputs }: AnyNode) => outputs.every((value) => !read.has(value));
  const inner = graph.nodes.filter((node) => !isLeaf(node));
  return { ...graph, nodes: [...inner, ...graph.nodes.filter(isLeaf).toReversed()] };
}
