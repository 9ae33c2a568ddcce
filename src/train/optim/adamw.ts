import { GraphBuilder } from '../../models/graph/builder.js';
import type { Value } from '../../models/graph/ir.js';
import * as op from '../../models/graph/ops.js';
import type { DeviceTensor, Runtime } from '../../models/runtime/session.js';
import { ElementwiseSession } from './elementwise-session.js';
import { GradientNorm } from './gradient-norm.js';
import { type ArenaLayout, ParameterArena } from './parameter-arena.js';

/**
 * Where epsilon stands. With m^ and v^ the bias-corrected moments, `torch` divides by sqrt(v^) + eps (Kingma and Ba 2015, algorithm 1);
 * `tensorflow` folds the corrections into the rate and divides by sqrt(v) + eps (their section 2), far gentler in the first steps when
 * gradients are near eps: lm-human-preferences was tuned with it.
 */
export type EpsilonForm = 'torch' | 'tensorflow';

export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly epsilonForm: EpsilonForm;
  /** Decoupled (Loshchilov and Hutter 2019): p <- p (1 - rate * decay) before the step. */
  readonly weightDecay: number;
  /** Global norm that gradients are scaled down to; null leaves them. */
  readonly clipNorm: number | null;
}

export interface UpdateReport {
  /** Global norm of the gradient before clipping. */
  readonly gradientNorm: number;
  readonly clipped: boolean;
}

/**
 * AdamW over flat buffers, in place: parameters and moments stay where they are on the device. `step` counts from 1 in the bias
 * corrections and is part of the state.
 */
export class AdamW implements Disposable {
  readonly options: AdamWOptions;
  readonly first: ParameterArena;
  readonly second: ParameterArena;
  steps = 0;
  readonly #layout: ArenaLayout;
  readonly #norm: GradientNorm;
  readonly #update: ElementwiseSession;

  constructor(runtime: Runtime, layout: ArenaLayout, options: AdamWOptions) {
    this.options = options;
    this.#layout = layout;
    this.first = new ParameterArena(runtime, layout);
    this.second = new ParameterArena(runtime, layout);
    this.#norm = new GradientNorm(runtime, layout.length);
    this.#update = new ElementwiseSession(runtime, updateGraph(options), [
      'rate',
      'denominator',
      'keep',
      'scale',
    ]);
  }

  /**
   * One step. Where the gradient's norm is not finite nothing is changed, and the report says so.
   * @param rate learning rate of this step
   */
  step(parameters: DeviceTensor<'float32'>, gradients: DeviceTensor<'float32'>, rate: number): UpdateReport {
    const { beta1, beta2, epsilonForm, weightDecay, clipNorm } = this.options;
    const gradientNorm = this.#norm.of(gradients);
    if (!Number.isFinite(gradientNorm)) return { gradientNorm, clipped: false };
    this.steps++;
    const correction1 = 1 - beta1 ** this.steps;
    const correction2 = Math.sqrt(1 - beta2 ** this.steps);
    const isTorch = epsilonForm === 'torch';
    // The 1e-6 is torch.nn.utils.clip_grad_norm_'s.
    const scale = clipNorm === null ? 1 : Math.min(1, clipNorm / (gradientNorm + 1e-6));
    const scalars = {
      rate: isTorch ? rate / correction1 : (rate * correction2) / correction1,
      denominator: isTorch ? 1 / correction2 : 1,
      scale,
    };
    const inputs = {
      parameter: parameters,
      gradient: gradients,
      first: this.first.flat,
      second: this.second.flat,
    };
    const outputs = {
      parameter_next: parameters,
      first_next: this.first.flat,
      second_next: this.second.flat,
    };
    const { decayed, length } = this.#layout;
    const keep = 1 - rate * weightDecay;
    if (decayed > 0)
      this.#update.run('decayed', { from: 0, to: decayed }, inputs, outputs, { ...scalars, keep });
    if (decayed < length)
      this.#update.run('plain', { from: decayed, to: length }, inputs, outputs, { ...scalars, keep: 1 });
    return { gradientNorm, clipped: scale < 1 };
  }

  [Symbol.dispose](): void {
    for (const part of [this.#update, this.#norm, this.first, this.second]) part[Symbol.dispose]();
  }
}

type Chunk = Value<'float32', readonly ['chunk']>;
type Scalar = Value<'float32', readonly []>;

/** m' = b1 m + (1-b1) g, v' = b2 v + (1-b2) g^2, p' = keep p - rate m' / (denominator sqrt(v') + eps), element by element. */
function updateGraph({ beta1, beta2, epsilon }: AdamWOptions): GraphBuilder {
  const g = new GraphBuilder('adamw', { chunk: 'dynamic' });
  const [parameter, gradient, first, second] = (['parameter', 'gradient', 'first', 'second'] as const).map(
    (name) => g.input(name, 'float32', ['chunk']),
  ) as [Chunk, Chunk, Chunk, Chunk];
  const [rate, denominator, keep, scale] = (['rate', 'denominator', 'keep', 'scale'] as const).map((name) =>
    g.input(name, 'float32', []),
  ) as [Scalar, Scalar, Scalar, Scalar];
  const scaled = op.mul(gradient, scale);
  const firstNext = op.add(op.mul(first, beta1), op.mul(scaled, 1 - beta1));
  const secondNext = op.add(op.mul(second, beta2), op.mul(op.mul(scaled, scaled), 1 - beta2));
  const divisor = op.add(op.mul(op.sqrt(secondNext), denominator), epsilon);
  g.output('first_next', firstNext);
  g.output('second_next', secondNext);
  g.output('parameter_next', op.sub(op.mul(parameter, keep), op.div(op.mul(firstNext, rate), divisor)));
  return g;
}
