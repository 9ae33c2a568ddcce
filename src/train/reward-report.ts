/** How good a reward model's preferences are. Pure. */

export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** Two-sided 95 %. */
const Z = 1.959963984540054;

/** Interval of a proportion that keeps its coverage at small counts and near 0 and 1 (Wilson 1927). */
export function wilsonInterval(successes: number, count: number): Interval {
  if (count === 0) return { low: 0, high: 1 };
  const share = successes / count;
  const shrink = 1 + Z ** 2 / count;
  const centre = (share + Z ** 2 / (2 * count)) / shrink;
  const half = (Z / shrink) * Math.sqrt((share * (1 - share)) / count + Z ** 2 / (4 * count ** 2));
  return { low: Math.max(0, centre - half), high: Math.min(1, centre + half) };
}

/** Pairs whose predicted probability of the likelier side lies in one range. */
export interface ReliabilityRow {
  readonly from: number;
  readonly to: number;
  readonly pairs: number;
  /** Mean of sigmoid(|margin|); null where there is no pair. */
  readonly predicted: number | null;
  /** Share in which that side was preferred. */
  readonly observed: number | null;
}

export interface HistogramRow {
  readonly from: number;
  readonly to: number;
  readonly pairs: number;
}

export interface RewardReport {
  readonly pairs: number;
  /** Share of pairs whose preferred side scores higher; equal scores count half. */
  readonly accuracy: number;
  readonly interval: Interval;
  /** Mean -log sigmoid(margin), nats a pair. */
  readonly loss: number;
  /** Mean |predicted - observed| over the reliability rows, weighted by pairs (Naeini et al. 2015). */
  readonly calibrationError: number;
  readonly reliability: readonly ReliabilityRow[];
  /** Of score(preferred) - score(other). */
  readonly margins: readonly HistogramRow[];
}

const RELIABILITY_ROWS = 10;
const HISTOGRAM_ROWS = 20;

/** @param margins score(preferred) - score(other) of each pair, at least one */
export function rewardReport(margins: readonly number[]): RewardReport {
  const right = margins.reduce((sum, margin) => sum + (margin > 0 ? 1 : margin === 0 ? 0.5 : 0), 0);
  const reliability = reliabilityOf(margins);
  const error = reliability.reduce(
    (sum, { pairs, predicted, observed }) =>
      predicted === null || observed === null ? sum : sum + pairs * Math.abs(predicted - observed),
    0,
  );
  return {
    pairs: margins.length,
    accuracy: right / margins.length,
    interval: wilsonInterval(right, margins.length),
    loss: margins.reduce((sum, margin) => sum + softplus(-margin), 0) / margins.length,
    calibrationError: error / margins.length,
    reliability,
    margins: histogramOf(margins),
  };
}

function reliabilityOf(margins: readonly number[]): ReliabilityRow[] {
  const rows = Array.from({ length: RELIABILITY_ROWS }, () => ({ pairs: 0, predicted: 0, right: 0 }));
  for (const margin of margins) {
    const predicted = 1 / (1 + Math.exp(-Math.abs(margin)));
    const row = rows[Math.min(RELIABILITY_ROWS - 1, Math.floor((predicted - 0.5) * 2 * RELIABILITY_ROWS))]!;
    row.pairs++;
    row.predicted += predicted;
    row.right += margin > 0 ? 1 : margin === 0 ? 0.5 : 0;
  }
  const width = 0.5 / RELIABILITY_ROWS;
  return rows.map(({ pairs, predicted, right }, i) => ({
    from: 0.5 + i * width,
    to: 0.5 + (i + 1) * width,
    pairs,
    predicted: pairs === 0 ? null : predicted / pairs,
    observed: pairs === 0 ? null : right / pairs,
  }));
}

function histogramOf(margins: readonly number[]): HistogramRow[] {
  const [low, high] = [Math.min(...margins), Math.max(...margins)];
  const width = (high - low) / HISTOGRAM_ROWS || 1;
  const counts = new Array<number>(HISTOGRAM_ROWS).fill(0);
  for (const margin of margins) {
    const at = Math.min(HISTOGRAM_ROWS - 1, Math.floor((margin - low) / width));
    counts[at] = counts[at]! + 1;
  }
  return counts.map((pairs, i) => ({ from: low + i * width, to: low + (i + 1) * width, pairs }));
}

/** log(1 + e^x) */
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
