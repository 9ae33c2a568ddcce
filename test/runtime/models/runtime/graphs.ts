import { GraphBuilder } from '../../../../src/models/graph/builder.js';
import { encodeModel, type ParameterPlacement } from '../../../../src/models/graph/onnx.js';
import { add, cast, gather, less, matmul, sqrt } from '../../../../src/models/graph/ops.js';

/** The small graphs that the runtime's tests run. */

/** y = x + w, float32 [rows, width], w [width] supplied by name. */
export function addWeight(width: number): Uint8Array {
  const g = new GraphBuilder('add', { rows: 'dynamic', width });
  const x = g.input('x', 'float32', ['rows', 'width']);
  g.output('y', add(x, g.parameter('w', 'float32', ['width'])));
  return encodeModel(g.build());
}

/** y = x + step, float32 [rows]. */
export function addInput(): Uint8Array {
  const g = new GraphBuilder('accumulate', { rows: 'dynamic' });
  const x = g.input('x', 'float32', ['rows']);
  g.output('y', add(x, g.input('step', 'float32', [])));
  return encodeModel(g.build());
}

/** y = x a, float32 [rows, k] by [k, n]: long enough to watch. */
export function multiply(k: number, n: number): Uint8Array {
  const g = new GraphBuilder('multiply', { rows: 'dynamic', k, n });
  g.output('y', matmul(g.input('x', 'float32', ['rows', 'k']), g.input('a', 'float32', ['k', 'n'])));
  return encodeModel(g.build());
}

/** Rows of a table [rows, width]: ONNX Runtime keeps no packed form of it. */
export function embed(rows: number, width: number, placement: ParameterPlacement): Uint8Array {
  const g = new GraphBuilder('embed', { picked: 'dynamic', rows, width });
  const table = g.parameter('table', 'float32', ['rows', 'width']);
  g.output('y', gather(table, 'rows', g.input('ids', 'int64', ['picked'])));
  return encodeModel(g.build(), { parameters: () => placement });
}

/** All element types but the plain ones: half = float16(x), below = a < b over int64. */
export function otherTypes(): Uint8Array {
  const g = new GraphBuilder('types', { n: 'dynamic' });
  g.output('half', cast(sqrt(g.input('x', 'float32', ['n'])), 'float16'));
  const below = less(g.input('a', 'int64', ['n']), g.input('b', 'int64', ['n']));
  g.output('below', below);
  g.output('flags', cast(below, 'uint8'));
  return encodeModel(g.build());
}
