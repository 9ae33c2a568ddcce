import type { ElementType, Graph } from '../../../../src/models/graph/ir.js';
import { encodeLiteral } from '../../../../src/models/graph/literal.js';
import { encodeModel } from '../../../../src/models/graph/onnx.js';
import type { DeviceTensor, Runtime } from '../../../../src/models/runtime/session.js';

/** A graph's input: one number an element, whatever its type. */
export interface Feed {
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

const decoders: { readonly [E in ElementType]: (bytes: Uint8Array) => number[] } = {
  float32: ({ buffer }) => Array.from(new Float32Array(buffer as ArrayBuffer)),
  float16: () => unreadable(),
  bfloat16: () => unreadable(),
  int64: ({ buffer }) => Array.from(new BigInt64Array(buffer as ArrayBuffer), Number),
  int32: ({ buffer }) => Array.from(new Int32Array(buffer as ArrayBuffer)),
  int8: ({ buffer }) => Array.from(new Int8Array(buffer as ArrayBuffer)),
  uint8: (bytes) => Array.from(bytes),
  bool: (bytes) => Array.from(bytes),
};
function unreadable(): never {
  throw new Error('cast 16-bit results to float32 in the graph');
}

/** Bytes of a tensor's memory, whatever typed array shows it. */
const memory = (tensor: DeviceTensor): Uint8Array => {
  const host = tensor.host!;
  return new Uint8Array(host.buffer, host.byteOffset, tensor.byteLength);
};

/**
 * Runs a graph once on the CPU: inputs are bound, parameters come by name as external initializers. Dynamic axes of outputs take the
 * extents that inputs have under the same name.
 */
export function runGraph(runtime: Runtime, graph: Graph, feeds: Readonly<Record<string, Feed>>): number[][] {
  const tensors: DeviceTensor[] = [];
  const allocate = (type: ElementType, shape: readonly number[]) => {
    const tensor = runtime.allocateHost(type, shape);
    tensors.push(tensor);
    return tensor;
  };
  const initializers = graph.parameters.map(({ name, type }) => {
    const { shape, data } = feeds[name]!;
    return { name, type, shape, data: encodeLiteral[type](data) };
  });
  using session = runtime.openSession(encodeModel(graph), { intraOpThreads: 1, initializers });
  using binding = session.createBinding();
  try {
    const extents = new Map<string, number>();
    for (const value of graph.inputs) {
      const feed = feeds[value.name]!;
      for (const [at, axis] of value.axes.entries()) extents.set(axis, feed.shape[at]!);
      const tensor = allocate(value.type, feed.shape);
      memory(tensor).set(encodeLiteral[value.type](feed.data));
      binding.bindInput(value.name, tensor);
    }
    const outputs = graph.outputs.map(({ name, value }) => {
      const shape = value.axes.map((axis, at) => value.extents[at] ?? extents.get(axis) ?? unresolved(axis));
      const tensor = allocate(value.type, shape);
      binding.bindOutput(name, tensor);
      return tensor;
    });
    binding.run();
    return outputs.map((tensor) => decoders[tensor.type](memory(tensor).slice()));
  } finally {
    for (const tensor of tensors) tensor[Symbol.dispose]();
  }
}

function unresolved(axis: string): never {
  throw new Error(`no input has the axis '${axis}'`);
}
