/** Losses as graph values. Sums are divided by counts that come in as numbers, so that micro-batches of one batch add up exactly. */
import type { Axes, Value } from '../models/graph/ir.js';
import * as op from '../models/graph/ops.js';
import type { Float, Picked } from './loss-heads.js';

export type Scalar = Value<'float32', readonly []>;

/** sum of weight * x */
const weightedSum = (x: Float, weights: Float): Scalar => op.reduceSum(op.mul(x, weights), x.axes) as Scalar;

/** -sum weight_i log p_i: the weights are 1 / tokens of the whole batch for a mean over tokens. */
export const negativeLogLikelihood = (logprobs: Picked, weights: Picked): Scalar =>
  op.neg(weightedSum(logprobs as Float, weights as Float));

/**
 * InstructGPT's reward loss (Ouyang et al. 2022, equation 1): -log sigmoid(r_winner - r_loser) summed over all ranked pairs of a prompt,
 * weighted by 1 / (pairs of the prompt * prompts). Each completion's score is used in K - 1 pairs and computed once.
 * @param winners, losers index of the pair's scores
 */
export function pairwiseLoss(
  scores: Picked,
  winners: Value<'int64', readonly ['pairs']>,
  losers: Value<'int64', readonly ['pairs']>,
  weights: Value<'float32', readonly ['pairs']>,
): { readonly loss: Scalar; readonly margins: Float } {
  const margins = op.sub(op.gather(scores, 'picked', winners), op.gather(scores, 'picked', losers)) as Float;
  return { loss: weightedSum(op.softplus(op.neg(margins)), weights as Float), margins };
}

export interface PolicyLossInputs {
  readonly logprobs: Picked;
  /** Of the policy that sampled. */
  readonly oldLogprobs: Picked;
  /** Whitened advantages. */
  readonly advantages: Picked;
  /** 1 / tokens of the whole minibatch. */
  readonly weights: Picked;
  /** Ratio clip range: 0.2 keeps the ratio in [0.8, 1.2]. */
  readonly clip: number;
}

/** PPO's clipped surrogate (Schulman et al. 2017, equation 7), as a loss: mean max(-A r, -A clip(r, 1 - c, 1 + c)). */
export function policyLoss({ logprobs, oldLogprobs, advantages, weights, clip }: PolicyLossInputs): Scalar {
  const ratio = op.exp(op.sub(logprobs, oldLogprobs));
  const gain = op.neg(advantages);
  const clipped = op.clip(ratio, { min: 1 - clip, max: 1 + clip });
  return weightedSum(op.max(op.mul(gain, ratio), op.mul(gain, clipped)) as Float, weights as Float);
}

export interface ValueLossInputs {
  readonly values: Picked;
  readonly oldValues: Picked;
  readonly returns: Picked;
  readonly weights: Picked;
  /** Values may move this far from the old ones before the loss stops paying for it. */
  readonly clip: number;
}

/** 0.5 mean max((v - R)^2, (clip(v, v_old - c, v_old + c) - R)^2). */
export function valueLoss({ values, oldValues, returns, weights, clip }: ValueLossInputs): Scalar {
  const near = op.min(op.max(values, op.sub(oldValues, clip)), op.add(oldValues, clip));
  const square = (x: Picked) => {
    const error = op.sub(x, returns);
    return op.mul(error, error);
  };
  return op.mul(weightedSum(op.max(square(values), square(near)) as Float, weights as Float), 0.5);
}

/**
 * DPO (Rafailov et al. 2023, equation 7) with label smoothing: -(1-e) log sigmoid(h) - e log sigmoid(-h), h = beta times the difference of
 * the log-ratios. At the start h = 0 and the loss is ln 2.
 * @param chosen, rejected sequence log-probabilities of the policy; the reference's come as inputs
 */
export function preferenceLoss(
  margin: Value<'float32', Axes>,
  weights: Value<'float32', Axes>,
  { beta, labelSmoothing }: { readonly beta: number; readonly labelSmoothing: number },
): Scalar {
  const h = op.mul(margin, beta);
  const right = op.mul(op.softplus(op.neg(h)), 1 - labelSmoothing);
  return weightedSum(op.add(right, op.mul(op.softplus(h), labelSmoothing)) as Float, weights);
}
