import { AppError } from '../core/errors.js';
import type { ChatMessage } from '../models/tokenizer/tokenizer.js';
import type { Schemas } from './contract.js';

export interface StoredResponse {
  readonly response: Schemas['Response'];
  /** The conversation up to and with the answer, without instructions. */
  readonly messages: readonly ChatMessage[];
}

/** Responses that `previous_response_id` may continue: in memory, the least recently used go first. */
export class ResponseStore {
  readonly #entries = new Map<string, { readonly stored: StoredResponse; readonly characters: number }>();
  readonly #mostEntries: number;
  readonly #mostCharacters: number;
  #characters = 0;

  constructor(bounds: { readonly entries: number; readonly characters: number }) {
    this.#mostEntries = bounds.entries;
    this.#mostCharacters = bounds.characters;
  }

  put(stored: StoredResponse): void {
    const characters = stored.messages.reduce((sum, { content }) => sum + content.length, 0);
    this.#entries.set(stored.response.id, { stored, characters });
    this.#characters += characters;
    for (const id of this.#entries.keys()) {
      if (this.#entries.size <= this.#mostEntries && this.#characters <= this.#mostCharacters) break;
      this.#forget(id);
    }
  }

  /** Throws `not_found`. */
  get(id: string, param: string): StoredResponse {
    const entry = this.#entries.get(id);
    if (entry === undefined) throw notStored(id, param);
    this.#entries.delete(id);
    this.#entries.set(id, entry);
    return entry.stored;
  }

  /** Throws `not_found`. */
  delete(id: string): void {
    if (!this.#forget(id)) throw notStored(id, 'id');
  }

  #forget(id: string): boolean {
    this.#characters -= this.#entries.get(id)?.characters ?? 0;
    return this.#entries.delete(id);
  }
}

const notStored = (id: string, param: string): AppError =>
  new AppError('not_found', `No response '${id}' is stored; it was never, or others have taken its place`, {
    param,
  });
