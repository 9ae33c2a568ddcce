/** Where each token of a run stands in its row. */
import type { Value } from '../graph/ir.js';
import { add, cast, extentValue, gather, max, range, squeeze, sub, unsqueeze } from '../graph/ops.js';

export type Tokens = Value<'int64', readonly ['rows', 'time']>;
type LastPosition = Value<'int32', readonly ['rows']>;

/**
 * Position of each token. A row's tokens end at its last position; a padded first prompt has more columns than tokens, and starts at 0.
 * The number of columns is a host tensor, which Range takes as it is; the last column comes from Range's result, which is on the device,
 * by Gather, since a reduction would need cuDNN.
 */
export function tokenPositions(tokens: Tokens, lastPosition: LastPosition): Tokens {
  const time = extentValue(tokens, 'time');
  const last = unsqueeze(cast(lastPosition, 'int64'), ['rows', '1']);
  const columns = range(squeeze(time, []), 'time');
  const lastColumn = gather(columns, 'time', tokens.graph.constant('int64', [-1], ['1']));
  const start = max(sub(last, lastColumn as never), 0) as Value<'int64', readonly ['rows', '1']>;
  const steps = unsqueeze(columns, ['1', 'time']);
  return add(start, steps as never) as unknown as Tokens;
}
