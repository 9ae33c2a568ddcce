/** Three AdamW steps against PyTorch's. */
import { Rng } from '../../core/rng.js';
import type { Runtime } from '../../models/runtime/session.js';
import { checked, type Verdict } from '../../models/verify/verdict.js';
import { AdamW } from '../optim/adamw.js';
import { ParameterArena } from '../optim/parameter-arena.js';
import type { Feeds, LossSession } from '../step.js';
import {
  BOUND,
  checkNumber,
  largestOf,
  relativeError,
  type TrainingReference,
} from './training-reference.js';

interface Trajectory {
  /** Before each step. */
  readonly losses: readonly number[];
  readonly firstNorm: number;
  /** Weights after the last step, in the layout's order. */
  readonly weights: Float32Array;
}

/** Rounding of a gradient, as a share of its tensor's largest element: what this build and PyTorch are seen to differ by. */
const GRADIENT_NOISE = 1e-6;
const NOISY_RUNS = 4;
/** How far beyond what noise alone moves a figure an error may lie. */
const NOISE_FACTOR = 4;

/**
 * Adam divides a gradient by its own size, so the first step of an element whose gradient is near 0 is rounding noise; where that element
 * matters later, all that follows is moved. How much is measured here: the same steps from gradients with noise in them. The bound is
 * 2e-5, or where noise alone moves a figure by more than a quarter of that, four times as much as it does.
 */
export function* verifyAdamW(
  runtime: Runtime,
  reference: TrainingReference,
  session: LossSession,
  feeds: Feeds,
): Generator<Verdict> {
  const run = (noise: Rng | null) => takeSteps(runtime, reference, session, feeds, noise);
  const found = run(null);
  const noisy = Array.from({ length: NOISY_RUNS }, (_, stream) => run(new Rng(0, stream)));
  yield checkNumber('sft gradient norm', found.firstNorm, reference.figure('sft_grad_norm'));
  for (const [step, expected] of reference.list('adamw_losses').entries()) {
    const loss = found.losses[step] ?? Number.NaN;
    const moved = Math.max(...noisy.map(({ losses }) => Math.abs(losses[step]! - loss)));
    const scale = Math.max(1, Math.abs(expected));
    const bound = Math.max(BOUND, (NOISE_FACTOR * moved) / scale);
    yield checked(`sft loss before AdamW step ${step + 1}`, Math.abs(loss - expected) / scale, bound);
  }
  yield checkWeights(reference, session, found, noisy);
}

function takeSteps(
  runtime: Runtime,
  reference: TrainingReference,
  session: LossSession,
  feeds: Feeds,
  noise: Rng | null,
): Trajectory {
  const { layout } = session;
  const figure = (name: string) => reference.figure(name, 'adamw');
  const [beta1 = 0, beta2 = 0] = reference.list('betas', 'adamw');
  using parameters = new ParameterArena(runtime, layout);
  using gradients = new ParameterArena(runtime, layout);
  using optimizer = new AdamW(runtime, layout, {
    beta1,
    beta2,
    epsilon: figure('eps'),
    epsilonForm: 'torch',
    weightDecay: figure('weight_decay'),
    clipNorm: figure('clip_norm'),
  });
  reference.load(parameters);
  const losses: number[] = [];
  const norms: number[] = [];
  for (let step = 0; step < figure('steps'); step++) {
    losses.push(session.run(feeds, parameters, gradients).loss![0]!);
    if (noise !== null) addNoise(gradients, noise);
    norms.push(optimizer.step(parameters.flat, gradients.flat, figure('lr')).gradientNorm);
  }
  const weights = new Float32Array(layout.length);
  parameters.read(weights);
  return { losses, firstNorm: norms[0] ?? Number.NaN, weights };
}

function addNoise(gradients: ParameterArena, rng: Rng): void {
  for (const { offset, length } of gradients.layout.entries) {
    const values = new Float32Array(length);
    gradients.read(values, offset);
    const size = GRADIENT_NOISE * values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    gradients.write(
      values.map((x) => x + size * (2 * rng.uniform() - 1)),
      offset,
    );
  }
}

/** Elements whose first gradient is over a thousandth of the largest; the step of the others is noise. */
function checkWeights(
  reference: TrainingReference,
  { layout }: LossSession,
  found: Trajectory,
  noisy: readonly Trajectory[],
): Verdict {
  const firsts = layout.entries.map(({ name }) => reference.numbers(`sft/grad/${name}`));
  const floor = 1e-3 * Math.max(...firsts.map(largestOf));
  let compared = 0;
  let worst = { name: '', error: -1, bound: BOUND };
  for (const [at, { name, offset }] of layout.entries.entries()) {
    const after = reference.numbers(`sft/after/${name}`);
    const clear = after.map((_, i) => i).filter((i) => Math.abs(firsts[at]![i]!) > floor);
    const take = (weights: ArrayLike<number>, from: number) => clear.map((i) => weights[from + i]!);
    const expected = take(after, 0);
    const ours = take(found.weights, offset);
    const scale = largestOf(after);
    const moved = noisy.map(({ weights }) => relativeError(take(weights, offset), ours, scale));
    const error = relativeError(ours, expected, scale);
    const bound = Math.max(BOUND, NOISE_FACTOR * Math.max(...moved));
    if (!(error / bound <= worst.error / worst.bound)) worst = { name, error, bound };
    compared += clear.length;
  }
  const share = ((100 * compared) / layout.parameters).toFixed(0);
  return checked(
    `parameters after AdamW, the ${share} % with a gradient, worst ${worst.name}`,
    worst.error,
    worst.bound,
  );
}
