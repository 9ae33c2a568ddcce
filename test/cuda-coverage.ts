/**
 * Which nodes of a graph have no CUDA kernel. ONNX Runtime puts such a node on the CPU without an error, copies its operands there and
 * back, and a decode step becomes slow; so every graph emitted for CUDA must give an empty list here.
 *
 * Kernel ranges follow ONNX Runtime's registry: 'N+' matches an op whose own version in ONNX is exactly N, '[a, b]' covers a range.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { AnyNode, ElementType, Graph, OpKind, Value } from '../src/models/graph/ir.js';
import { lower } from '../src/models/graph/lowering.js';
import { OPSET } from '../src/models/graph/onnx.js';

interface KernelRow {
  readonly since: string;
  readonly types: readonly string[];
}

interface KernelTable {
  /** Op of ai.onnx -> the version in which it last changed, as of `opset`. */
  readonly opset: number;
  readonly sinceVersions: Readonly<Record<string, number>>;
  readonly ops: Readonly<Record<string, Readonly<Record<string, readonly KernelRow[]>>>>;
}

const table = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../test/fixtures/cuda-kernels.json', import.meta.url)), 'utf8'),
) as KernelTable;

if (table.opset !== OPSET)
  throw new Error(`the kernel table has op versions of opset ${table.opset}, graphs are written in ${OPSET}`);

const rowTypes: { readonly [E in ElementType]: string } = {
  float32: 'float',
  float16: 'float16',
  bfloat16: 'bfloat16',
  int64: 'int64',
  int32: 'int32',
  int8: 'int8',
  uint8: 'uint8',
  bool: 'bool',
};

/** Kinds whose rows list the type of something else than operand 0. */
const typedByResult: ReadonlySet<OpKind> = new Set([
  'ConstantOfShape',
  'RandomUniformLike',
  'GatherBlockQuantized',
  'OneHot',
]);
const keyType = (node: AnyNode): ElementType => {
  if (typedByResult.has(node.kind)) return node.outputs[0]!.type;
  return node.inputs[node.kind === 'Where' ? 1 : 0]!.type;
};

/** Whether a kernel row is registered for an op of this version. */
export function coversVersion(since: string, version: number): boolean {
  const range = /^\[(\d+), (\d+)\]$/.exec(since);
  if (range) return Number(range[1]) <= version && version <= Number(range[2]);
  const from = /^(\d+)\+?$/.exec(since);
  if (!from) throw new Error(`a kernel range '${since}' of an unknown form`);
  return Number(from[1]) === version;
}

export interface MissingKernel {
  readonly domain: string;
  readonly op: string;
  readonly version: number;
  readonly type: ElementType;
  /** Names of the nodes. */
  readonly nodes: readonly string[];
}

/** Every (domain, op, version, type) of the graph without a CUDA kernel, with the nodes that need it. */
export function missingCudaKernels(graph: Graph): readonly MissingKernel[] {
  const missing = new Map<string, MissingKernel & { readonly nodes: string[] }>();
  for (const node of graph.nodes) {
    const { op, domain } = lower(node);
    // Ops outside the ONNX standard, SimplifiedLayerNormalization among them, are of version 1.
    const version = domain === '' ? (table.sinceVersions[op] ?? 1) : 1;
    const type = keyType(node);
    const rows = table.ops[domain]?.[op] ?? [];
    if (rows.some((row) => coversVersion(row.since, version) && row.types.includes(rowTypes[type]))) continue;
    const key = `${domain} ${op} ${version} ${type}`;
    const entry = missing.get(key) ?? { domain, op, version, type, nodes: [] };
    entry.nodes.push(node.name);
    missing.set(key, entry);
  }
  return [...missing.values()];
}

/** Operands that CUDA's kernels read on the host (InputMemoryType of their registrations), where an operand can be computed at all. */
const hostOperands: { readonly [K in OpKind]?: readonly number[] } = {
  Reshape: [1],
  Expand: [1],
  Slice: [1, 2],
  Range: [0, 1, 2],
  ConstantOfShape: [0],
  GroupQueryAttention: [6],
};

/**
 * Nodes for which ONNX Runtime puts a copy between host and device into a graph on CUDA, with the operand. Shape gives a host tensor, and
 * what is computed of host tensors alone stays on the host (GetCpuPreferredNodes), so that extents flow to Reshape and Range for free. But
 * a kernel that wants such a value on the device costs a copy and a wait a run, and keeps the graph from being captured.
 */
export function hostCopies(graph: Graph): readonly string[] {
  const onHost = new Set<Value>();
  // Constants are placed where they are read; an input is fed to where its readers want it, which is one place.
  const inputs = new Set<Value>(graph.inputs);
  const anywhere = new Set<Value>([...inputs, ...graph.constants.map(({ value }) => value)]);
  const fed = { host: new Set<Value>(), device: new Set<Value>() };
  const copies: string[] = [];
  for (const node of graph.nodes) {
    const wanted = hostOperands[node.kind] ?? [];
    const operands = node.inputs.flatMap((value, at) => (value === null ? [] : [{ value, at }]));
    const isHostNode =
      operands.some(({ value }) => onHost.has(value)) &&
      operands.every(
        ({ value, at }) =>
          !(onHost.has(value) && wanted.includes(at)) &&
          (onHost.has(value) || anywhere.has(value)) &&
          !/float16/.test(value.type),
      );
    for (const { value, at } of operands)
      if (inputs.has(value)) fed[isHostNode || wanted.includes(at) ? 'host' : 'device'].add(value);
    if (isHostNode || node.kind === 'Shape') {
      for (const output of node.outputs) onHost.add(output);
      continue;
    }
    for (const { value, at } of operands)
      if (!anywhere.has(value) && onHost.has(value) !== wanted.includes(at))
        copies.push(`${node.name} reads ${value.name}`);
  }
  for (const value of fed.host) if (fed.device.has(value)) copies.push(`${value.name} is read on both`);
  return copies;
}
