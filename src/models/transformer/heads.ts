/** What stands on a decoder's last hidden states: a language head over the picked positions, or a scalar reward. */
import type { Value } from '../graph/ir.js';
import { add, cast, gather, linear, mergeAxes, squeeze } from '../graph/ops.js';
import type { DecoderBuilder, Stream } from './blocks.js';
import { decoderOutputs } from './decoder.js';

type Picked = Value<'float32' | 'float16', readonly ['picked', 'hidden']>;

/** Only the picked positions go through a head: the language head is the largest product of a small model. */
export const pickPositions = (x: Stream, picked: Value<'int64', readonly ['picked']>): Picked =>
  gather(mergeAxes(x, ['rows', 'time'], 'tokens'), 'tokens', picked) as Picked;

/** @param table Name of the checkpoint's head, or of its embedding table where the two are tied. */
export function languageHead(builder: DecoderBuilder, x: Picked, table: string): void {
  const { vocabulary, hidden, tiedHead } = builder.config;
  const matrix = {
    parts: [{ tensor: table, size: vocabulary }],
    outputs: vocabulary,
    inputs: hidden,
    transposed: false,
  };
  // Unquantised and tied, the head's weight is the embedding parameter itself.
  const isShared = tiedHead && (builder.form === 'float32' || builder.form === 'float16');
  const logits = isShared
    ? linear(
        x,
        builder.parameter('embedding', builder.activations, ['vocabulary', 'hidden'], {
          kind: 'matrix',
          matrix,
        }) as never,
      )
    : builder.product(x, 'head', { outputs: 'vocabulary', inputs: 'hidden' }, matrix, { place: 'head' });
  builder.g.output(decoderOutputs.language, cast(logits as Value, 'float32'));
}

/** hidden -> 1 in float32: the head is small and its error would be the score's. */
export function rewardHead(
  builder: DecoderBuilder,
  x: Picked,
  tensors: { readonly weight: string; readonly bias: string | null },
): void {
  const { hidden } = builder.config;
  const weight = builder.parameter('score.weight', 'float32', ['1', 'hidden'], {
    kind: 'vector',
    parts: [{ tensor: tensors.weight, size: hidden }],
  });
  const scores = squeeze(
    linear(cast(x, 'float32') as Value<'float32', readonly ['picked', 'hidden']>, weight),
    ['picked'],
  );
  if (tensors.bias === null) {
    builder.g.output(decoderOutputs.reward, scores);
    return;
  }
  const bias = builder.parameter('score.bias', 'float32', ['1'], {
    kind: 'vector',
    parts: [{ tensor: tensors.bias, size: 1 }],
  });
  builder.g.output(decoderOutputs.reward, add(scores, bias as never));
}
