/** Learning rate by step: a factor of the peak rate. Steps count from 0; the warm-up's first step already moves the weights. */
export type ScheduleOptions =
  | { readonly type: 'constant'; readonly warmUpSteps: number }
  | { readonly type: 'linear' | 'cosine'; readonly warmUpSteps: number; readonly finalFraction: number };

export interface Schedule {
  /** Factor in [0, 1] of the peak learning rate at a step of `totalSteps`. */
  factor(step: number, totalSteps: number): number;
}

type Decay = (progress: number, finalFraction: number) => number;

const decays: Readonly<Record<'linear' | 'cosine', Decay>> = {
  linear: (progress, final) => 1 - (1 - final) * progress,
  cosine: (progress, final) => final + (1 - final) * 0.5 * (1 + Math.cos(Math.PI * progress)),
};

export const createSchedule = (options: ScheduleOptions): Schedule => ({
  factor: (step, totalSteps) => {
    if (step < options.warmUpSteps) return (step + 1) / options.warmUpSteps;
    if (options.type === 'constant') return 1;
    const span = Math.max(1, totalSteps - options.warmUpSteps);
    const progress = Math.min(1, (step - options.warmUpSteps) / span);
    return decays[options.type](progress, options.finalFraction);
  },
});
