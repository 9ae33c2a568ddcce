import type { GraphBuilder } from '../../../src/models/graph/builder.js';
import { encodeModel } from '../../../src/models/graph/onnx.js';
import type { DeviceTensor, Runtime } from '../../../src/models/runtime/session.js';

/** A host tensor that feeds a graph: float32, or int64 where the graph's input is one. */
export interface Feed {
  readonly type: 'float32' | 'int64';
  readonly shape: readonly number[];
  readonly data: readonly number[] | Float32Array;
}

/** Runs a graph once with parameters and inputs fed by name, and gives the float outputs whose shapes are named. */
export function runGraph(
  runtime: Runtime,
  builder: GraphBuilder,
  feeds: Readonly<Record<string, Feed>>,
  outputs: Readonly<Record<string, readonly number[]>>,
): Record<string, Float32Array> {
  const graph = builder.build();
  using session = runtime.openSession(encodeModel(graph, { parameters: () => ({ kind: 'input' }) }));
  using binding = session.createBinding();
  const tensors: DeviceTensor[] = [];
  for (const [name, { type, shape, data }] of Object.entries(feeds)) {
    const tensor = runtime.allocateHost(type, shape);
    if (type === 'int64') tensor.write(BigInt64Array.from(data as readonly number[], (x) => BigInt(x)));
    else tensor.write(Float32Array.from(data));
    binding.bindInput(name, tensor);
    tensors.push(tensor);
  }
  const results = Object.entries(outputs).map(([name, shape]) => {
    const tensor = runtime.allocateHost('float32', shape);
    binding.bindOutput(name, tensor);
    tensors.push(tensor);
    return [name, tensor] as const;
  });
  binding.run();
  const read = Object.fromEntries(
    results.map(([name, tensor]) => [name, tensor.host!.slice() as Float32Array]),
  );
  for (const tensor of tensors) tensor[Symbol.dispose]();
  return read;
}
