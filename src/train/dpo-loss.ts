/** Log-probabilities of whole answers: graphs and what feeds them. */
import { GraphBuilder } from '../models/graph/builder.js';
import type { Axes, Value } from '../models/graph/ir.js';
import * as op from '../models/graph/ops.js';
import type { ModelConfig } from '../models/transformer/model-config.js';
import type { Feeds } from './batch-run.js';
import type { Example } from './data/examples.js';
import { decoderAxes } from './differentiable-decoder.js';
import type { ForwardGraph } from './forward.js';
import { floatFeed, languageFeeds, learnedLogprobs, learnedTokens } from './language-loss.js';
import { preferenceLoss } from './losses.js';
import type { LossGraph } from './step.js';

type Rows = Value<'float32', readonly ['rows']>;
type Pairs = Value<'float32', readonly ['pairs']>;

/** Sum over each row's learned tokens. */
function answerLogprobs(g: GraphBuilder, config: ModelConfig, maxTime: number): Rows {
  const logprobs = learnedLogprobs(g, config, { maxTime });
  const membership = g.input('membership', 'float32', ['rows', 'picked']) as Value<'float32', Axes>;
  return op.reduceSum(op.mul(membership, logprobs as never), ['picked']) as Rows;
}

export interface DpoLossOptions {
  readonly maxTime: number;
  readonly beta: number;
  readonly labelSmoothing: number;
}

/**
 * Input `reference`: the start policy's log-probability of each row. Readings: `logprobs`, one a row; `margins`, one a pair:
 * log-ratio of the winner minus log-ratio of the loser.
 */
export function dpoLossGraph(config: ModelConfig, { maxTime, ...options }: DpoLossOptions): LossGraph {
  const builder = new GraphBuilder('dpo_loss', { ...decoderAxes(config), pairs: 'dynamic' });
  const logprobs = answerLogprobs(builder, config, maxTime);
  const ratios = op.sub(logprobs, builder.input('reference', 'float32', ['rows'])) as Rows;
  const [winners, losers] = (['winners', 'losers'] as const).map((name) =>
    builder.input(name, 'int64', ['pairs']),
  );
  const margins = op.sub(op.gather(ratios, 'rows', winners!), op.gather(ratios, 'rows', losers!)) as Pairs;
  const weights = builder.input('weights', 'float32', ['pairs']);
  return { builder, loss: preferenceLoss(margins, weights, options), readings: { logprobs, margins } };
}

/** Reading: `logprobs`, one a row. */
export function answerForwardGraph(config: ModelConfig, maxTime: number): ForwardGraph {
  const builder = new GraphBuilder('answer_forward', decoderAxes(config));
  return { builder, readings: { logprobs: answerLogprobs(builder, config, maxTime) } };
}

/** languageFeeds, and which learned token belongs to which row. */
export function answerFeeds(rows: readonly Example[]): Feeds {
  const { feeds, picked } = languageFeeds(rows);
  const membership = new Float32Array(rows.length * picked);
  let next = 0;
  for (const [row, example] of rows.entries()) {
    const count = learnedTokens(example);
    membership.fill(1, row * picked + next, row * picked + next + count);
    next += count;
  }
  return { ...feeds, membership: floatFeed(membership, [rows.length, picked]) };
}
