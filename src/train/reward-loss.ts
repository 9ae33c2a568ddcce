/** Scores at the last token of each row: graphs and what feeds them. */
import { GraphBuilder } from '../models/graph/builder.js';
import type { ModelConfig } from '../models/transformer/model-config.js';
import type { Feeds } from './batch-run.js';
import type { Example } from './data/examples.js';
import { decodePicked, decoderAxes } from './differentiable-decoder.js';
import type { ForwardGraph } from './forward.js';
import { indexFeed, int64 } from './language-loss.js';
import { type Picked, scalarHead } from './loss-heads.js';
import { pairwiseLoss } from './losses.js';
import type { LossGraph } from './step.js';

function lastScores(g: GraphBuilder, config: ModelConfig, maxTime: number): Picked {
  const tokens = g.input('tokens', 'int64', ['rows', 'time']);
  const picked = g.input('picked', 'int64', ['picked']);
  return scalarHead(g, decodePicked(g, config, tokens, picked, { maxTime }), 'score');
}

/** Readings: `scores`, one a row; `margins`, one a pair. */
export function rewardLossGraph(config: ModelConfig, maxTime: number): LossGraph {
  const builder = new GraphBuilder('reward_loss', { ...decoderAxes(config), pairs: 'dynamic' });
  const scores = lastScores(builder, config, maxTime);
  const [winners, losers] = (['winners', 'losers'] as const).map((name) =>
    builder.input(name, 'int64', ['pairs']),
  );
  const weights = builder.input('weights', 'float32', ['pairs']);
  const { loss, margins } = pairwiseLoss(scores, winners!, losers!, weights);
  return { builder, loss, readings: { scores, margins } };
}

/** Reading: `scores`, one a row. */
export function rewardForwardGraph(config: ModelConfig, maxTime: number): ForwardGraph {
  const builder = new GraphBuilder('reward_forward', decoderAxes(config));
  return { builder, readings: { scores: lastScores(builder, config, maxTime) } };
}

/** Rows padded on the right with token 0; the score is read at each row's own last token. */
export function scoreFeeds(rows: readonly Example[]): Feeds {
  const time = Math.max(...rows.map(({ tokens }) => tokens.length));
  const ids = new BigInt64Array(rows.length * time);
  for (const [row, { tokens }] of rows.entries())
    for (const [at, token] of tokens.entries()) ids[row * time + at] = BigInt(token);
  return {
    tokens: int64(ids, [rows.length, time]),
    picked: indexFeed(rows.map(({ tokens }, row) => row * time + tokens.length - 1)),
  };
}
