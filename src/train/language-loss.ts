/** Log-probabilities of the tokens that a batch learns: graphs and what feeds them, for SFT, pretraining, PPO-ptx and validation. */
import { GraphBuilder } from '../models/graph/builder.js';
import type { ModelConfig } from '../models/transformer/model-config.js';
import type { Feed, Feeds } from './batch-run.js';
import type { Example } from './data/examples.js';
import { decode, decodePicked, decoderAxes, type Residual } from './differentiable-decoder.js';
import type { ForwardGraph } from './forward.js';
import { languageHead, type Picked, pick, targetLogprobs } from './loss-heads.js';
import { negativeLogLikelihood } from './losses.js';
import type { LossGraph } from './step.js';

export interface LanguageGraphOptions {
  /** Longest row, in tokens. */
  readonly maxTime: number;
  /** Made with the graph's builder; see dropout.ts. */
  readonly residual?: (g: GraphBuilder) => Residual;
}

/** Inputs `tokens`, `picked`, `targets`; the log-probability of each target. */
export function learnedLogprobs(g: GraphBuilder, config: ModelConfig, options: LanguageGraphOptions): Picked {
  const tokens = g.input('tokens', 'int64', ['rows', 'time']);
  const picked = g.input('picked', 'int64', ['picked']);
  const targets = g.input('targets', 'int64', ['picked']);
  const { maxTime, residual } = options;
  // Dropout masks are made for every position, so that a position's mask does not depend on which ones are learned.
  const hidden =
    residual === undefined
      ? decodePicked(g, config, tokens, picked, { maxTime })
      : pick(decode(g, config, tokens, { maxTime, residual: residual(g) }), picked);
  return targetLogprobs(languageHead(g, config, hidden), targets);
}

/** Negative log-likelihood of the learned tokens, each weighted by the input `weights`. */
export function languageLossGraph(config: ModelConfig, options: LanguageGraphOptions): LossGraph {
  const builder = new GraphBuilder('language_loss', decoderAxes(config));
  const logprobs = learnedLogprobs(builder, config, options);
  const weights = builder.input('weights', 'float32', ['picked']);
  return { builder, loss: negativeLogLikelihood(logprobs, weights), readings: {} };
}

/** The same without a gradient; reading `logprobs`, one a learned token in the order of `languageFeeds`. */
export function languageForwardGraph(config: ModelConfig, options: LanguageGraphOptions): ForwardGraph {
  const builder = new GraphBuilder('language_forward', decoderAxes(config));
  return { builder, readings: { logprobs: learnedLogprobs(builder, config, options) } };
}

export const learnedTokens = ({ tokens, start }: Example): number => tokens.length - start;

/** Rows padded on the right with token 0 to the longest; the learned tokens row by row. */
export function languageFeeds(rows: readonly Example[]): {
  readonly feeds: Feeds;
  readonly picked: number;
  readonly time: number;
} {
  const time = Math.max(...rows.map(({ tokens }) => tokens.length));
  const count = rows.reduce((sum, row) => sum + learnedTokens(row), 0);
  const ids = new BigInt64Array(rows.length * time);
  const picked = new BigInt64Array(count);
  const targets = new BigInt64Array(count);
  let next = 0;
  for (const [row, { tokens, start }] of rows.entries()) {
    for (const [at, token] of tokens.entries()) ids[row * time + at] = BigInt(token);
    for (let at = start; at < tokens.length; at++, next++) {
      picked[next] = BigInt(row * time + at - 1);
      targets[next] = BigInt(tokens[at]!);
    }
  }
  const feeds = {
    tokens: int64(ids, [rows.length, time]),
    picked: int64(picked, [count]),
    targets: int64(targets, [count]),
  };
  return { feeds, picked: count, time };
}

export const int64 = (data: BigInt64Array, shape: readonly number[]): Feed => ({
  type: 'int64',
  shape,
  data,
});

export const indexFeed = (values: readonly number[]): Feed =>
  int64(BigInt64Array.from(values, BigInt), [values.length]);

export const floatFeed = (data: Float32Array, shape: readonly number[] = [data.length]): Feed => ({
  type: 'float32',
  shape,
  data,
});
