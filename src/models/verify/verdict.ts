/** What one check of verify-directory.ts found. */
import type { LoadedDecoder } from '../transformer/load-decoder.js';

export type Verdict =
  | {
      readonly kind: 'checked';
      readonly quantity: string;
      /** Largest error over all elements, or the number of places that differ. */
      readonly error: number;
      readonly bound: number;
      readonly ok: boolean;
    }
  /** In the reference, but nothing here computes it yet. */
  | { readonly kind: 'unchecked'; readonly quantity: string; readonly reason: string };

export const checked = (quantity: string, error: number, bound: number): Verdict => ({
  kind: 'checked',
  quantity,
  error,
  bound,
  // A NaN is over every bound.
  ok: error <= bound,
});

/** Opens a directory's model with its prepared weights in a directory that goes when the check is over. */
export type OpenForCheck = (directory: string, positions: number) => LoadedDecoder;
