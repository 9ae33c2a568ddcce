/** Native parts of one owner, released in the reverse order of their making: what DisposableStack is where the runtime has it (Node 24). */
export class OwnedParts implements Disposable {
  #parts: Disposable[] = [];

  own<T extends Disposable>(part: T): T {
    this.#parts.push(part);
    return part;
  }

  /** Hands the parts over, at the end of a constructor that could have failed half-way. */
  move(): OwnedParts {
    const moved = new OwnedParts();
    moved.#parts = this.#parts;
    this.#parts = [];
    return moved;
  }

  [Symbol.dispose](): void {
    for (const part of this.#parts.splice(0).toReversed()) part[Symbol.dispose]();
  }
}
