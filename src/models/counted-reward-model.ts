import type { RewardModel } from './reward-model.js';

type Score = RewardModel['score'];

/** A reward model that knows how many calls are under way, so that it is not freed below them. */
export class CountedRewardModel implements RewardModel {
  calls = 0;
  readonly id: string;
  readonly contextLength: number;
  readonly tokenizer: RewardModel['tokenizer'];
  readonly chatTemplate: RewardModel['chatTemplate'];
  readonly #model: RewardModel;

  /** Takes the model over. */
  constructor(model: RewardModel) {
    this.#model = model;
    this.id = model.id;
    this.contextLength = model.contextLength;
    this.tokenizer = model.tokenizer;
    this.chatTemplate = model.chatTemplate;
  }

  get failure(): RewardModel['failure'] {
    return this.#model.failure;
  }

  async score(...call: Parameters<Score>): ReturnType<Score> {
    this.calls++;
    try {
      return await this.#model.score(...call);
    } finally {
      this.calls--;
    }
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#model[Symbol.asyncDispose]();
  }
}
