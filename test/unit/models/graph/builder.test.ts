import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GraphBuilder } from '../../../../src/models/graph/builder.js';
import { type AnyNode, dump, type Graph, type Value } from '../../../../src/models/graph/ir.js';
import { add, matmul, mul, quickGelu, reduceSum, rmsNorm, split } from '../../../../src/models/graph/ops.js';
import { verify } from '../../../../src/models/graph/verify.js';

const mlp = (): Graph => {
  const g = new GraphBuilder('mlp', { rows: 'dynamic', model: 4, ffn: 6 });
  const x = g.input('hidden', 'float32', ['rows', 'model']);
  const y = g.scope('layers.0', () => {
    const normed = rmsNorm(x, g.parameter('norm', 'float32', ['model']), 1e-5);
    return g.scope('mlp', () => {
      const up = matmul(normed, g.parameter('up', 'float32', ['model', 'ffn']));
      return matmul(mul(quickGelu(up, 1), 0.5), g.parameter('down', 'float32', ['ffn', 'model']));
    });
  });
  g.output('hidden_next', add(x, y));
  return g.build();
};

test('a graph reads as text: a line a node, with types, axes and attributes', () => {
  assert.equal(
    dump(mlp()),
    `graph mlp
  input hidden: float32[rows, model=4]
  parameter layers.0.norm: float32[model=4]
  parameter layers.0.mlp.up: float32[model=4, ffn=6]
  parameter layers.0.mlp.down: float32[ffn=6, model=4]
  constant constant: float32[] = 0.5
  layers.0.SimplifiedLayerNormalization.0: float32[rows, model=4], layers.0.SimplifiedLayerNormalization.1: float32[rows, 1] = SimplifiedLayerNormalization(hidden[rows, model=4], layers.0.norm[model=4]) {epsilon: 0.00001}
  layers.0.mlp.MatMul: float32[rows, ffn=6] = MatMul(layers.0.SimplifiedLayerNormalization.0[rows, model=4], layers.0.mlp.up[model=4, ffn=6])
  layers.0.mlp.QuickGelu: float32[rows, ffn=6] = QuickGelu(layers.0.mlp.MatMul[rows, ffn=6]) {alpha: 1}
  layers.0.mlp.Mul: float32[rows, ffn=6] = Mul(layers.0.mlp.QuickGelu[rows, ffn=6], constant[])
  layers.0.mlp.MatMul_2: float32[rows, model=4] = MatMul(layers.0.mlp.Mul[rows, ffn=6], layers.0.mlp.down[ffn=6, model=4])
  Add: float32[rows, model=4] = Add(hidden[rows, model=4], layers.0.mlp.MatMul_2[rows, model=4])
  output hidden_next: float32[rows, model=4] = Add
`,
  );
});

test('values and nodes are frozen', () => {
  const graph = mlp();
  const [node] = graph.nodes;
  for (const frozen of [
    graph,
    graph.nodes,
    node,
    node?.inputs,
    node?.outputs,
    graph.inputs[0],
    graph.inputs[0]?.axes,
  ])
    assert.ok(Object.isFrozen(frozen));
});

test('equal constants are one, whatever asked for them; minus zero is another', () => {
  const g = new GraphBuilder('constants', {});
  assert.equal(g.constant('int64', [1, 2], ['pair']), g.constant('int64', [1, 2], ['pair']));
  assert.notEqual(g.constant('int64', 1), g.constant('int32', 1));
  assert.notEqual(g.constant('float32', 0), g.constant('float32', -0));
});

test('a parameter asked for again is the same weight; with other axes it is refused', () => {
  const g = new GraphBuilder('tied', { vocabulary: 8, model: 4 });
  const table = g.parameter('embedding', 'float32', ['vocabulary', 'model']);
  assert.equal(g.parameter('embedding', 'float32', ['vocabulary', 'model']), table);
  assert.throws(
    () => g.parameter('embedding', 'float32', ['model']),
    /embedding is \[vocabulary=8, model=4\]/,
  );
});

test('an axis that nobody declared is refused by name', () => {
  const g = new GraphBuilder('typo', { model: 4 });
  assert.throws(() => g.input('x', 'float32', ['modle']), /axis 'modle' is not declared; add it/);
});

test('a scope may give an axis another extent, for a second model of another width', () => {
  const g = new GraphBuilder('two widths', { model: 4 });
  const narrow = g.parameter('w', 'float32', ['model']);
  const wide = g.scope('value', () => g.parameter('w', 'float32', ['model']), { model: 6 });
  assert.deepEqual([narrow.extents, wide.extents], [[4], [6]]);
  assert.equal(wide.name, 'value.w');
  assert.throws(() => add(narrow, wide), /axis 'model' has extent 4 here and 6 there; rename/);
});

test('a value of another graph is refused', () => {
  const [here, there] = ['here', 'there'].map((name) => new GraphBuilder(name, { model: 4 }));
  const [x, y] = [here!.input('x', 'float32', ['model']), there!.input('y', 'float32', ['model'])];
  assert.throws(() => add(x, y), /Add at Add takes y of another graph/);
});

test('parts that do not fill the axis are refused', () => {
  const g = new GraphBuilder('parts', { qkv: 6, q: 4, k: 1 });
  assert.throws(
    () => split(g.input('x', 'float32', ['qkv']), 'qkv', ['q', 'k']),
    /parts of 5 in all from \[qkv=6\]/,
  );
});

/** The graph with one node replaced. */
const withNode = (graph: Graph, at: number, change: (node: AnyNode) => object): Graph => ({
  ...graph,
  nodes: graph.nodes.with(at, { ...graph.nodes[at]!, ...change(graph.nodes[at]!) } as AnyNode),
});

test('verification finds what a rewrite broke, and names the node', () => {
  const graph = mlp();
  const refuses = (broken: Graph, message: RegExp) =>
    assert.throws(() => verify(broken), { code: 'graph_invalid', message });
  const other = (value: Value, change: Partial<Value>) => ({ ...value, ...change }) as Value;

  refuses(
    { ...graph, nodes: graph.nodes.toReversed() },
    /^Add: Add reads layers\.0\.mlp\.MatMul_2 .* no earlier node/,
  );
  refuses(
    { ...graph, nodes: [...graph.nodes, graph.nodes[1]!] },
    /layers\.0\.mlp\.MatMul: the value .* twice/,
  );
  refuses(
    withNode(graph, 1, ({ outputs }) => ({ outputs: [other(outputs[0]!, { axes: ['rows', 'model'] })] })),
    /layers\.0\.mlp\.MatMul: MatMul makes float32\[rows, ffn=6\], but .* says float32\[rows, model=6\]/,
  );
  refuses(
    withNode(graph, 1, ({ inputs }) => ({ inputs: [inputs[0]!, inputs[0]!] })),
    /MatMul at layers\.0\.mlp\.MatMul of .*inner axes .* differ/,
  );
  refuses({ ...graph, outputs: [] }, /has no output/);
  refuses(
    { ...graph, parameters: [...graph.parameters, other(graph.inputs[0]!, { name: 'spare' })] },
    /^spare: .* never read; leave it out/,
  );
  verify(graph);
});

test('an output cannot take the name of another value', () => {
  const g = new GraphBuilder('names', { model: 4 });
  const x = g.input('x', 'float32', ['model']);
  g.output('x', reduceSum(x, ['model']));
  assert.throws(() => g.build(), /output x: another value or output has that name/);
});
