import { Rng } from '../../core/rng.js';
import type { SlotIndex, TokenId } from '../../core/units.js';
import type { GenerateRequest, PromptLogprob } from './engine.js';
import type { TokenHistory } from './logit-adjustments.js';

/** Names a request between the engine and whoever started it. */
export type LaneId = number;

/** One request in the engine: a prompt and the sequences that continue it. */
export class Lane {
  readonly id: LaneId;
  readonly request: GenerateRequest;
  readonly sequences: readonly Sequence[];
  readonly promptSet: ReadonlySet<TokenId>;
  readonly arrivedAt: number;
  startedAt: number | null = null;
  /** Tokens that may still be sent before the reader has to take some. */
  credit: number;
  /** Logits of the prompt's last position, kept until every sequence has drawn its first token from them. */
  promptLogits: Float32Array | null = null;
  readonly promptLogprobs: (PromptLogprob | null)[] = [];
  cachedTokens = 0;

  constructor(id: LaneId, request: GenerateRequest, laneBuffer: number, arrivedAt: number) {
    this.id = id;
    this.request = request;
    this.arrivedAt = arrivedAt;
    this.credit = laneBuffer * request.sequences;
    // Only the repetition penalty looks at the prompt.
    this.promptSet = new Set(request.sampling.repetitionPenalty === 1 ? [] : request.prompt);
    this.sequences = Array.from({ length: request.sequences }, (_, index) => new Sequence(this, index));
  }

  get unfinished(): boolean {
    return this.sequences.some(({ state }) => state !== 'finished');
  }
}

/**
 * waiting    has no slot                          -> prefilling when a slot is free
 * prefilling has a slot and part of its prompt    -> decoding when its first token is drawn
 * decoding   draws one token a step               -> finished
 * finished   has no slot; reached from any state by stop, length, cancel or failure
 */
export type SequenceState = 'waiting' | 'prefilling' | 'decoding' | 'finished';

/** One continuation of a lane's prompt. */
export class Sequence implements TokenHistory {
  readonly lane: Lane;
  readonly index: number;
  readonly rng: Rng;
  state: SequenceState = 'waiting';
  slot: SlotIndex | null = null;
  /** Prompt tokens whose keys and values are in the slot. */
  prefilled = 0;
  /** The newest token: drawn, not yet run through the model. */
  lastToken: TokenId | null = null;
  generated = 0;
  readonly counts = new Map<TokenId, number>();
  readonly #counting: boolean;

  constructor(lane: Lane, index: number) {
    const { sampling } = lane.request;
    this.lane = lane;
    this.index = index;
    this.rng = new Rng(sampling.seed, index);
    this.#counting =
      sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0 || sampling.repetitionPenalty !== 1;
  }

  /** The first sequence computes the prompt; the others take it from there. */
  get leads(): boolean {
    return this.index === 0;
  }

  get prompt(): ReadonlySet<TokenId> {
    return this.lane.promptSet;
  }

  get stopIds(): ReadonlySet<TokenId> {
    return this.lane.request.stopIds;
  }

  push(token: TokenId): void {
    this.lastToken = token;
    this.generated++;
    if (this.#counting) this.counts.set(token, (this.counts.get(token) ?? 0) + 1);
  }
}
