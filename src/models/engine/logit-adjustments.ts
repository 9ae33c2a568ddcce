import type { TokenId } from '../../core/units.js';
import type { SamplingOptions } from './engine.js';

/** What a sequence has said so far, as far as the sampler minds. */
export interface TokenHistory {
  readonly prompt: ReadonlySet<TokenId>;
  /** Generated token -> how often. */
  readonly counts: ReadonlyMap<TokenId, number>;
  readonly generated: number;
  readonly stopIds: ReadonlySet<TokenId>;
}

/**
 * Penalties and biases touch few entries of a row, so they are written into the row itself and taken back after the draw: no copy of
 * the vocabulary a token, and the row may be shared by several sequences.
 */
export class LogitAdjustments {
  readonly #ids: TokenId[] = [];
  readonly #before: number[] = [];

  static needed(options: SamplingOptions, history: TokenHistory): boolean {
    return (
      options.repetitionPenalty !== 1 ||
      options.presencePenalty !== 0 ||
      options.frequencyPenalty !== 0 ||
      options.logitBias.size > 0 ||
      (history.generated < options.minTokens && history.stopIds.size > 0)
    );
  }

  /**
   * In this order, on the logits:
   * - repetition (Keskar et al. 2019; Hugging Face): over prompt and generated tokens, a positive logit is divided, another multiplied;
   * - presence and frequency (OpenAI): over generated tokens, `presence + count * frequency` is taken off;
   * - logit_bias is added;
   * - stop ids are ruled out while fewer than minTokens are there.
   */
  apply(row: Float32Array, options: SamplingOptions, history: TokenHistory): void {
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = options;
    if (repetitionPenalty !== 1) {
      const penalise = (id: TokenId) => {
        const logit = row[id] as number;
        this.#set(row, id, logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty);
      };
      for (const id of history.prompt) penalise(id);
      for (const id of history.counts.keys()) if (!history.prompt.has(id)) penalise(id);
    }
    if (presencePenalty !== 0 || frequencyPenalty !== 0) {
      for (const [id, count] of history.counts) {
        this.#set(row, id, (row[id] as number) - presencePenalty - count * frequencyPenalty);
      }
    }
    for (const [id, bias] of options.logitBias) this.#set(row, id, (row[id] as number) + bias);
    if (history.generated < options.minTokens) {
      for (const id of history.stopIds) this.#set(row, id, Number.NEGATIVE_INFINITY);
    }
  }

  /** Gives the row back as it was before `apply`. */
  undo(row: Float32Array): void {
    // Backwards: an entry adjusted twice gets its first value last.
    for (let i = this.#ids.length - 1; i >= 0; i--) row[this.#ids[i] as TokenId] = this.#before[i] as number;
    this.#ids.length = 0;
    this.#before.length = 0;
  }

  #set(row: Float32Array, id: TokenId, value: number): void {
    if (id >= row.length) return;
    this.#ids.push(id);
    this.#before.push(row[id] as number);
    row[id] = value;
  }
}
