/** Every op kind against a plain reading of its definition. The table is complete or this file does not compile. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { GraphBuilder } from '../../../../src/models/graph/builder.js';
import type { OpKind } from '../../../../src/models/graph/ir.js';
import { opKinds } from '../../../../src/models/graph/op-rules.js';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import { elementwiseExamples } from './elementwise-examples.js';
import type { Example } from './example.js';
import { linearExamples } from './linear-examples.js';
import { runGraph } from './run-graph.js';
import { gatherExamples, reductionExamples, shapeExamples } from './structure-examples.js';
import { transformerExamples } from './transformer-examples.js';

const examples: { readonly [K in OpKind]: readonly Example[] } = {
  ...elementwiseExamples,
  ...reductionExamples,
  ...shapeExamples,
  ...gatherExamples,
  ...linearExamples,
  ...transformerExamples,
};

const runtime = openRuntime({ provider: 'cpu', threads: 1 });
after(() => runtime[Symbol.dispose]());

/** Equal where both are not finite; else within the tolerance, relative to the largest expected number. */
function assertClose(actual: readonly number[], expected: readonly number[], tolerance: number): void {
  assert.equal(actual.length, expected.length);
  const largest = Math.max(...expected.map(Math.abs).filter(Number.isFinite), 1e-6);
  for (const [at, want] of expected.entries()) {
    const got = actual[at]!;
    if (Object.is(got, want)) continue;
    const error = Math.abs(got - want) / largest;
    assert.ok(error <= tolerance, `element ${at} is ${got}, should be ${want}`);
  }
}

describe('ops equal their definitions', () => {
  for (const kind of opKinds) {
    for (const example of examples[kind])
      test(`${kind}: ${example.what}`, () => {
        const g = new GraphBuilder(kind, example.axes);
        for (const [at, value] of example.build(g).entries()) g.output(`result${at}`, value);
        const graph = g.build();
        assert.ok(
          graph.nodes.some((node) => node.kind === kind),
          `the example has no ${kind}`,
        );
        const results = runGraph(runtime, graph, example.feeds);
        assert.equal(results.length, example.expected.length);
        for (const [at, expected] of example.expected.entries())
          assertClose(results[at]!, expected, example.tolerance ?? 2e-6);
      });
  }

  test('every kind has an example', () => {
    assert.deepEqual(
      opKinds.filter((kind) => examples[kind].length === 0),
      [],
    );
  });
});
