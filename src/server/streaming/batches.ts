/** Ways of reading async iterables that the routes need before they frame anything. */

const LATER = Symbol('later');
const turn = (): Promise<typeof LATER> => new Promise((resolve) => setImmediate(resolve, LATER));

/**
 * Groups what is ready in one turn of the event loop, so that it costs one write. An engine delivers a token and the end of its choice in
 * one message; this is what lets the last piece of text carry its finish reason, as OpenAI's frames do.
 * @param most Items in a group, so that a fast source cannot outrun its reader.
 */
export async function* inBatches<Item>(source: AsyncIterable<Item>, most = 64): AsyncGenerator<Item[]> {
  const iterator = source[Symbol.asyncIterator]();
  const pull = () => {
    const next = iterator.next();
    next.catch(() => {}); // It is awaited below; until then a failure must not count as unhandled.
    return next;
  };
  let pending = pull();
  try {
    for (;;) {
      const first = await pending;
      if (first.done) return;
      const batch = [first.value];
      pending = pull();
      while (batch.length < most) {
        const ready = await Promise.race([pending, turn()]).catch(() => LATER);
        if (typeof ready === 'symbol' || ready.done) break;
        batch.push(ready.value);
        pending = pull();
      }
      yield batch;
    }
  } finally {
    await iterator.return?.();
  }
}

/** Items of all sources as they come, with the index of their source. Ends when all have, or with the first failure. */
export async function* merged<Item>(
  sources: readonly AsyncIterable<Item>[],
): AsyncGenerator<readonly [source: number, item: Item]> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const pull = (index: number) => iterators[index]!.next().then((result) => ({ index, result }));
  const pending = new Map(iterators.map((_, index) => [index, pull(index)]));
  try {
    while (pending.size > 0) {
      const { index, result } = await Promise.race(pending.values());
      if (result.done) pending.delete(index);
      else {
        pending.set(index, pull(index));
        yield [index, result.value];
      }
    }
  } finally {
    for (const unread of pending.values()) unread.catch(() => {});
    await Promise.allSettled(iterators.map((iterator) => iterator.return?.()));
  }
}
