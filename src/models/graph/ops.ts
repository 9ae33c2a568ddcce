/** All op functions under one name: `import * as op from '../graph/ops.js'`, or by name. */
export * from './ops/elementwise.js';
export * from './ops/gather.js';
export * from './ops/linear.js';
export * from './ops/reduction.js';
export * from './ops/shape.js';
export * from './ops/transformer.js';
