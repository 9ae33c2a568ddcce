/** IR -> ModelProto bytes. The only place that knows protobuf; field numbers are those of onnx.proto (onnx 1.17, IR version 10). */
import type { Axes, Constant, Graph, Signature, Value } from './ir.js';
import { encodeLiteral } from './literal.js';
import { lower } from './lowering.js';
import { type Literal, type OnnxAttribute, type OnnxNode, onnxDataType } from './onnx-node.js';
import { Message } from './protobuf.js';

export const OPSET = 18;
const IR_VERSION = 10;

const modelField = { irVersion: 1, producerName: 2, graph: 7, opsetImport: 8 } as const;
const opsetField = { domain: 1, version: 2 } as const;
const graphField = { node: 1, name: 2, initializer: 5, input: 11, output: 12 } as const;
const nodeField = { input: 1, output: 2, name: 3, opType: 4, attribute: 5, domain: 7 } as const;
const attributeField = { name: 1, f: 2, i: 3, s: 4, t: 5, ints: 8, type: 20 } as const;
const attributeType = { float: 1, int: 2, string: 3, tensor: 4, ints: 7 } as const;
const tensorField = {
  dims: 1,
  dataType: 2,
  name: 8,
  rawData: 9,
  externalData: 13,
  dataLocation: 14,
} as const;
const EXTERNAL = 1;
const entryField = { key: 1, value: 2 } as const;
const valueInfoField = { name: 1, type: 2 } as const;
const typeField = { tensorType: 1 } as const;
const tensorTypeField = { elemType: 1, shape: 2 } as const;
const shapeField = { dim: 1 } as const;
const dimensionField = { dimValue: 1, dimParam: 2 } as const;

/** Where a parameter's bytes are when the session opens. */
export type ParameterPlacement =
  /** The caller binds it as an input of each run: shared between sessions, or trained in place. */
  | { readonly kind: 'input' }
  /** An initializer whose bytes come by name, or from the file if one is named. */
  | { readonly kind: 'external'; readonly file?: string; readonly offset?: number; readonly length?: number }
  /** Inside the model: for what is small. Bytes in the element type's layout. */
  | { readonly kind: 'inline'; readonly data: Uint8Array };

export interface EncodeOptions {
  /** Default: every parameter is external, to be supplied by name. Extents of a parameter that is no input must be known. */
  readonly parameters?: (parameter: Value) => ParameterPlacement;
}

/** ONNX Runtime wants a location that exists; it opens it, and fails, only for a parameter that nobody supplies. */
const SUPPLIED_BY_NAME = '.';

const tensor = (name: string | null, { type, shape, data }: Literal): Message => {
  const message = new Message()
    .integers(tensorField.dims, shape)
    .integer(tensorField.dataType, onnxDataType[type]);
  if (name !== null) message.string(tensorField.name, name);
  return message.data(tensorField.rawData, data);
};

const entry = (key: string, value: string): Message =>
  new Message().string(entryField.key, key).string(entryField.value, value);

function externalTensor(value: Value, placement: ParameterPlacement & { kind: 'external' }): Message {
  const { file = SUPPLIED_BY_NAME, offset, length } = placement;
  const message = new Message()
    .integers(tensorField.dims, knownShape(value))
    .integer(tensorField.dataType, onnxDataType[value.type])
    .string(tensorField.name, value.name)
    .message(tensorField.externalData, entry('location', file));
  if (offset !== undefined) message.message(tensorField.externalData, entry('offset', String(offset)));
  if (length !== undefined) message.message(tensorField.externalData, entry('length', String(length)));
  return message.integer(tensorField.dataLocation, EXTERNAL);
}

function knownShape({
  name,
  axes,
  extents,
}: {
  name: string;
  axes: Axes;
  extents: Signature['extents'];
}): number[] {
  return extents.map((extent, at) => {
    if (extent === null) throw new RangeError(`initializer ${name}: axis '${axes[at]}' is dynamic`);
    return extent;
  });
}

function valueInfo(name: string, { type, axes, extents }: Signature): Message {
  const shape = new Message();
  for (const [at, extent] of extents.entries())
    shape.message(
      shapeField.dim,
      extent === null
        ? new Message().string(dimensionField.dimParam, axes[at]!)
        : new Message().integer(dimensionField.dimValue, extent),
    );
  const tensorType = new Message()
    .integer(tensorTypeField.elemType, onnxDataType[type])
    .message(tensorTypeField.shape, shape);
  return new Message()
    .string(valueInfoField.name, name)
    .message(valueInfoField.type, new Message().message(typeField.tensorType, tensorType));
}

function attribute(name: string, given: OnnxAttribute): Message {
  const message = new Message().string(attributeField.name, name);
  switch (given.kind) {
    case 'int':
      message.integer(attributeField.i, given.value);
      break;
    case 'float':
      message.float(attributeField.f, given.value);
      break;
    case 'string':
      message.string(attributeField.s, given.value);
      break;
    case 'ints':
      message.integers(attributeField.ints, given.value);
      break;
    case 'tensor':
      message.message(attributeField.t, tensor(null, given.value));
      break;
  }
  return message.integer(attributeField.type, attributeType[given.kind]);
}

/** Small tensors that lowering makes, one initializer for each content. */
class Literals {
  readonly #names = new Map<string, string>();
  readonly #graph: Message;
  constructor(graph: Message) {
    this.#graph = graph;
  }
  nameOf(literal: Literal): string {
    const key = `${literal.type} ${literal.shape} ${literal.data}`;
    const before = this.#names.get(key);
    if (before !== undefined) return before;
    // No value has a name that starts with a slash: scopes are dotted.
    const name = `/literal.${this.#names.size}`;
    this.#names.set(key, name);
    this.#graph.message(graphField.initializer, tensor(name, literal));
    return name;
  }
}

/** Names of the values in the file: an output of the graph goes by its output's name if a node made it. */
class Naming {
  readonly #names = new Map<Value, string>();
  /** Outputs that need a node of their own: inputs, parameters, or a value that is an output twice. */
  readonly copies: { readonly from: Value; readonly to: string }[] = [];
  constructor(graph: Graph) {
    const made = new Set(graph.nodes.flatMap((node) => node.outputs));
    for (const { name, value } of graph.outputs)
      if (made.has(value) && !this.#names.has(value)) this.#names.set(value, name);
      else if (value.name !== name || !made.has(value)) this.copies.push({ from: value, to: name });
  }
  of(value: Value): string {
    return this.#names.get(value) ?? value.name;
  }
}

function nodeMessage(
  name: string,
  node: OnnxNode,
  inputs: readonly string[],
  outputs: readonly string[],
): Message {
  const message = new Message();
  const trimmed = (names: readonly string[]) =>
    names.slice(0, names.findLastIndex((each) => each !== '') + 1);
  for (const input of trimmed(inputs)) message.string(nodeField.input, input);
  for (const output of trimmed(outputs)) message.string(nodeField.output, output);
  message.string(nodeField.name, name).string(nodeField.opType, node.op);
  for (const [key, value] of Object.entries(node.attributes))
    message.message(nodeField.attribute, attribute(key, value));
  if (node.domain !== '') message.string(nodeField.domain, node.domain);
  return message;
}

function writeNodes(graph: Graph, message: Message): void {
  const naming = new Naming(graph);
  const literals = new Literals(message);
  const read = new Set<Value | null>(graph.nodes.flatMap((node) => node.inputs));
  for (const { value } of graph.outputs) read.add(value);
  for (const node of graph.nodes) {
    const lowered = lower(node);
    const inputs = lowered.inputs.map((input) => {
      if (input === null) return '';
      return 'name' in input ? naming.of(input) : literals.nameOf(input);
    });
    const outputs = node.outputs.map((value, at) =>
      at < lowered.required || read.has(value) ? naming.of(value) : '',
    );
    message.message(graphField.node, nodeMessage(node.name, lowered, inputs, outputs));
  }
  const identity: OnnxNode = { op: 'Identity', domain: '', inputs: [], attributes: {}, required: 1 };
  for (const { from, to } of naming.copies)
    message.message(graphField.node, nodeMessage(`${to}.copy`, identity, [naming.of(from)], [to]));
}

const inlineTensor = (value: Value, data: Uint8Array): Message =>
  tensor(value.name, { type: value.type, shape: knownShape(value), data });

const constantTensor = ({ value, numbers }: Constant): Message =>
  inlineTensor(value, encodeLiteral[value.type](numbers));

/** A verified graph as the bytes of a ModelProto, to be opened by a session. */
export function encodeModel(graph: Graph, options: EncodeOptions = {}): Uint8Array {
  const placementOf = options.parameters ?? ((): ParameterPlacement => ({ kind: 'external' }));
  const message = new Message().string(graphField.name, graph.name);
  for (const value of graph.inputs) message.message(graphField.input, valueInfo(value.name, value));
  for (const value of graph.parameters) {
    const placement = placementOf(value);
    if (placement.kind === 'input') message.message(graphField.input, valueInfo(value.name, value));
    else if (placement.kind === 'external')
      message.message(graphField.initializer, externalTensor(value, placement));
    else message.message(graphField.initializer, inlineTensor(value, placement.data));
  }
  for (const constant of graph.constants) message.message(graphField.initializer, constantTensor(constant));
  writeNodes(graph, message);
  for (const { name, value } of graph.outputs) message.message(graphField.output, valueInfo(name, value));

  const opset = (domain: string, version: number) =>
    new Message().string(opsetField.domain, domain).integer(opsetField.version, version);
  return new Message()
    .integer(modelField.irVersion, IR_VERSION)
    .string(modelField.producerName, 'instructd')
    .message(modelField.graph, message)
    .message(modelField.opsetImport, opset('', OPSET))
    .message(modelField.opsetImport, opset('com.microsoft', 1)).bytes;
}
