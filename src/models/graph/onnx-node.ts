/** A node as ONNX has it: op and domain, inputs with small tensors among them, typed attributes. lowering.ts makes them, onnx.ts writes them. */
import type { ElementType, Node, OpKind, Value } from './ir.js';
import { encodeLiteral } from './literal.js';

export type OnnxAttribute =
  | { readonly kind: 'int'; readonly value: number }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'ints'; readonly value: readonly number[] }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'tensor'; readonly value: Literal };

/** A small tensor inside the model. */
export interface Literal {
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export interface OnnxNode {
  readonly op: string;
  readonly domain: '' | 'com.microsoft';
  readonly inputs: readonly (Value | Literal | null)[];
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
  /** Outputs that ONNX requires; later ones are written only where they are read. */
  readonly required: number;
}

export const onnxDataType: { readonly [E in ElementType]: number } = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
};

export const int = (value: number): OnnxAttribute => ({ kind: 'int', value });
export const float = (value: number): OnnxAttribute => ({ kind: 'float', value });
export const ints = (value: readonly number[]): OnnxAttribute => ({ kind: 'ints', value });
export const string = (value: string): OnnxAttribute => ({ kind: 'string', value });
export const boolean = (value: boolean): OnnxAttribute => int(value ? 1 : 0);

export const vector = (values: readonly number[]): Literal => ({
  type: 'int64',
  shape: [values.length],
  data: encodeLiteral.int64(values),
});
export const scalar = (type: ElementType, value: number): Literal => ({
  type,
  shape: [],
  data: encodeLiteral[type]([value]),
});

type Parts = Partial<Omit<OnnxNode, 'domain'>>;

export const onnx = (node: Node, parts: Parts = {}): OnnxNode => ({
  op: node.kind,
  domain: '',
  inputs: node.inputs,
  attributes: {},
  required: node.outputs.length,
  ...parts,
});
export const microsoft = (node: Node, parts: Parts = {}): OnnxNode => ({
  ...onnx(node, parts),
  domain: 'com.microsoft',
});

export type Lowering<K extends OpKind> = (node: Node<K>) => OnnxNode;
