/** The derivative of every op, in a table that the compiler completes: a new op kind does not build until it says here what it is. */
import type { OpKind } from '../../models/graph/ir.js';
import { binaryDerivatives, unaryDerivatives } from './rules/elementwise-derivatives.js';
import { gatherDerivatives } from './rules/gather-derivatives.js';
import { linearDerivatives } from './rules/linear-derivatives.js';
import { reductionDerivatives } from './rules/reduction-derivatives.js';
import { shapeDerivatives } from './rules/shape-derivatives.js';
import { transformerDerivatives } from './rules/transformer-derivatives.js';
import type { Derivative } from './vjp.js';

export const derivatives: { readonly [K in OpKind]: Derivative<K> } = {
  ...unaryDerivatives,
  ...binaryDerivatives,
  ...reductionDerivatives,
  ...shapeDerivatives,
  ...gatherDerivatives,
  ...linearDerivatives,
  ...transformerDerivatives,
};
