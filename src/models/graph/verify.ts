/** Checks a whole graph by the rules that its nodes were made by, so that a rewritten graph is held to the same. */
import { AppError } from '../../core/errors.js';
import type { AnyNode, Graph, Signature, Value } from './ir.js';
import { describe } from './ir.js';
import { opRules } from './op-rules.js';
import { applyRule, type Rule } from './rule.js';

const fail = (at: string, reason: string): never => {
  throw new AppError('graph_invalid', `${at}: ${reason}`, { param: at });
};

const agrees = (promised: Signature, found: Signature): boolean =>
  promised.type === found.type &&
  promised.axes.length === found.axes.length &&
  promised.axes.every((axis, at) => axis === found.axes[at] && promised.extents[at] === found.extents[at]);

function verifyNode(
  node: AnyNode,
  define: (value: Value, at: string) => void,
  isDefined: (value: Value) => boolean,
) {
  for (const value of node.inputs)
    if (value !== null && !isDefined(value))
      fail(node.name, `${node.kind} reads ${value.name} ${describe(value)}, which no earlier node makes`);
  const results = applyRule(opRules[node.kind] as Rule, node, node.attributes);
  if (results.length !== node.outputs.length)
    fail(node.name, `${node.kind} makes ${results.length} values, not ${node.outputs.length}`);
  for (const [at, value] of node.outputs.entries()) {
    const result = results[at]!;
    if (!agrees(value, result))
      fail(node.name, `${node.kind} makes ${describe(result)}, but ${value.name} says ${describe(value)}`);
    define(value, node.name);
  }
}

/**
 * Values are defined once, before they are read, under one name each; types and axes are what the rules say; every output is made, and
 * every input and parameter is read. Throws AppError `graph_invalid` that names the node.
 */
export function verify(graph: Graph): void {
  const defined = new Map<string, Value>();
  const define = (value: Value, at: string) => {
    if (defined.has(value.name)) fail(at, `the value ${value.name} is defined twice`);
    defined.set(value.name, value);
  };
  const isDefined = (value: Value) => defined.get(value.name) === value;

  for (const value of graph.inputs) define(value, `input ${value.name}`);
  for (const value of graph.parameters) define(value, `parameter ${value.name}`);
  for (const { value } of graph.constants) define(value, `constant ${value.name}`);
  for (const node of graph.nodes) verifyNode(node, define, isDefined);

  if (graph.outputs.length === 0) fail(graph.name, 'the graph has no output');
  const outputNames = new Set<string>();
  for (const { name, value } of graph.outputs) {
    if (!isDefined(value))
      fail(`output ${name}`, `${value.name} ${describe(value)} is not made in this graph`);
    const other = defined.get(name);
    if (outputNames.has(name) || (other !== undefined && other !== value))
      fail(`output ${name}`, 'another value or output has that name');
    outputNames.add(name);
  }
  verifyUse(graph);
}

function verifyUse(graph: Graph): void {
  const used = new Set<Value | null>(graph.nodes.flatMap((node) => node.inputs));
  for (const { value } of graph.outputs) used.add(value);
  for (const value of [...graph.inputs, ...graph.parameters])
    if (!used.has(value)) fail(value.name, `${describe(value)} is declared and never read; leave it out`);
}
