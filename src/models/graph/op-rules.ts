/** Every op's rule, in a table that the compiler completes. */
import type { OpKind } from './ir.js';
import { elementwiseRules } from './ops/elementwise.js';
import { gatherRules } from './ops/gather.js';
import { linearRules } from './ops/linear.js';
import { reductionRules } from './ops/reduction.js';
import { shapeRules } from './ops/shape-rules.js';
import { transformerRules } from './ops/transformer-rules.js';
import type { Rule } from './rule.js';

export const opRules: { readonly [K in OpKind]: Rule<K> } = {
  ...elementwiseRules,
  ...reductionRules,
  ...shapeRules,
  ...gatherRules,
  ...linearRules,
  ...transformerRules,
};

export const opKinds = Object.keys(opRules) as readonly OpKind[];
