import type { Binding, DeviceTensor, Runtime, Session } from '../models/runtime/session.js';

/** What a batch feeds to a graph, by input name. */
export type Feeds = Readonly<Record<string, Feed>>;
export type Feed =
  | { readonly type: 'int64'; readonly shape: readonly number[]; readonly data: BigInt64Array }
  | { readonly type: 'float32'; readonly shape: readonly number[]; readonly data: Float32Array };

export interface Readings {
  readonly names: readonly string[];
  /** Numbers in each reading; one where it is not named. */
  readonly lengths: Readonly<Record<string, number>>;
}

/** One run of a session on a batch: feeds go in, readings come out as host arrays; `bind` ties the weights where they lie. */
export function runBatch(
  runtime: Runtime,
  session: Session,
  feeds: Feeds,
  { names, lengths }: Readings,
  bind: (binding: Binding, own: <T extends Disposable>(resource: T) => T) => void,
): Record<string, Float32Array> {
  const owned: Disposable[] = [];
  const own = <T extends Disposable>(resource: T): T => {
    owned.push(resource);
    return resource;
  };
  try {
    const binding = own(session.createBinding());
    for (const [name, { type, shape, data }] of Object.entries(feeds)) {
      const tensor = own(runtime.allocateHost(type, shape) as DeviceTensor);
      tensor.write(data);
      binding.bindInput(name, tensor);
    }
    bind(binding, own);
    const tensors = names.map((name) => {
      const length = lengths[name];
      const tensor = own(runtime.allocateHost('float32', length === undefined ? [] : [length]));
      binding.bindOutput(name, tensor);
      return [name, tensor] as const;
    });
    binding.run();
    return Object.fromEntries(tensors.map(([name, tensor]) => [name, tensor.host!.slice()]));
  } finally {
    for (const resource of owned.toReversed()) resource[Symbol.dispose]();
  }
}
