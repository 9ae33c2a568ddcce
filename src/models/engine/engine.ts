import type { AppError } from '../../core/errors.js';
import type { Milliseconds, Nats, TokenId } from '../../core/units.js';

/** A prompt to continue, or to score where maxTokens is 0. Field ranges are checked by the caller (text-model). */
export interface GenerateRequest {
  readonly prompt: readonly TokenId[];
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
  /** Ids that end the sequence; not emitted as text. */
  readonly stopIds: ReadonlySet<TokenId>;
  /** Log-probabilities of this many most likely tokens beside the sampled one's; null for none at all. */
  readonly logprobs: number | null;
  /** Also those of the prompt's tokens (echo). */
  readonly promptLogprobs: boolean;
  /** Sequences of one request with the same prompt: the prompt is prefilled once. */
  readonly sequences: number;
}

/**
 * Applied in this order: repetition, presence and frequency penalties and logit_bias on the logits; log-softmax for logprobs is taken
 * of the raw logits; then temperature, top_k, top_p, min_p (each renormalises), draw. Temperature 0 is argmax (lowest id on a tie).
 */
export interface SamplingOptions {
  readonly temperature: number;
  readonly topP: number;
  /** 0 = off. */
  readonly topK: number;
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** 1 = off. */
  readonly repetitionPenalty: number;
  readonly logitBias: ReadonlyMap<TokenId, number>;
  /** Sequence i of a request draws from stream i of this seed, whatever else is in the batch. */
  readonly seed: bigint;
  /** No stop id before this many tokens. */
  readonly minTokens: number;
}

export interface TokenLogprob {
  readonly id: TokenId;
  readonly logprob: Nats;
}

export type FinishReason = 'stop' | 'length';

export type TokenEvent =
  | {
      readonly type: 'prompt';
      /** Tokens served from the prefix cache. */
      readonly cachedTokens: number;
      /** One entry a prompt token where promptLogprobs was asked; the first is null. */
      readonly logprobs: readonly (PromptLogprob | null)[] | null;
      /** From arrival to the first slot, and from there to the prompt's last logits. */
      readonly queueTime: Milliseconds;
      readonly prefillTime: Milliseconds;
    }
  | {
      readonly type: 'token';
      readonly sequence: number;
      readonly id: TokenId;
      /** The sampling policy's own log-probability at temperature 1, null unless asked. */
      readonly logprob: Nats | null;
      readonly top: readonly TokenLogprob[];
    }
  | {
      readonly type: 'finish';
      readonly sequence: number;
      readonly reason: FinishReason;
      readonly stopId: TokenId | null;
    };

export interface PromptLogprob extends TokenLogprob {
  readonly top: readonly TokenLogprob[];
}

/** A snapshot between two steps. A request runs as soon as one of its sequences has a slot. */
export interface EngineStats {
  readonly requestsRunning: number;
  readonly requestsWaiting: number;
  readonly slotsBusy: number;
  readonly slots: number;
  /** Prompt tokens computed or taken from the prefix cache, once a request. */
  readonly promptTokens: number;
  readonly generationTokens: number;
  readonly prefixCacheHitTokens: number;
  readonly waitingPromptTokens: number;
  readonly steps: number;
}

/** Limits of one engine. */
export interface EngineOptions {
  /** Rows that decode at once. */
  readonly slots: number;
  /** Positions a slot. */
  readonly contextLength: number;
  /** Prompt tokens prefilled between two decode steps; one or two more where a single token would be left over. */
  readonly prefillChunk: number;
  /** Sequences that may wait beside those that have a slot; n choices count as n. */
  readonly maxQueuedRequests: number;
  /** Prompt tokens that may wait for their prefill. A single longer prompt is taken when nothing waits. */
  readonly maxQueuedPromptTokens: number;
  /** Tokens a sequence may be ahead of its reader before its request is paused. */
  readonly laneBuffer: number;
}

/** What a request yields, until every sequence has finished. */
export interface Generation extends AsyncIterable<TokenEvent> {
  /** Ends one sequence whose text matched a stop string: its slot is free within one step, the others go on, no finish event comes. */
  finish(sequence: number): void;
}

/** A model that turns token ids into token ids. */
export interface Engine extends AsyncDisposable {
  readonly options: EngineOptions;
  /** Why no request can succeed any more (the worker died, or was told to stop); null while the engine works. */
  readonly failure: AppError | null;
  /**
   * Throws at once (AppError `queue_full`, `context_length_exceeded`, or the engine's failure), else starts. The iterable ends with
   * AppError `request_cancelled` within one step of the signal's abort; its slots are free then. Leaving the loop early does the same.
   */
  generate(request: GenerateRequest, signal: AbortSignal): Generation;
  stats(): EngineStats;
}
