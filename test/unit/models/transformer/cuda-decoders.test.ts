import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildDecoder } from '../../../../src/models/transformer/build-decoder.js';
import { architectures, configOf } from '../../../architectures.js';
import { hostCopies, missingCudaKernels } from '../../../cuda-coverage.js';

for (const type of Object.keys(architectures) as (keyof typeof architectures)[]) {
  const [language] = architectures[type];
  const reward = language.replace(/ForCausalLM|LMHeadModel/, 'ForSequenceClassification');
  const heads = {
    [language]: {},
    [reward]: { architectures: [reward], num_labels: 1, id2label: { 0: 'LABEL_0' } },
    // Not what GroupQueryAttention rotates or takes: the rotation stands before it, and heads are filled up.
    [`${language} with heads of 12`]: type === 'gpt2' ? { n_embd: 48 } : { head_dim: 12 },
  };
  for (const [name, change] of Object.entries(heads))
    test(`every node of ${name} in float16 has a CUDA kernel, and none a copy to or from the host`, () => {
      const config = configOf(type, change);
      const { graph } = buildDecoder(config, { has: () => true }, { form: 'float16', maxPositions: 64 });
      assert.deepEqual(missingCudaKernels(graph), []);
      assert.deepEqual(hostCopies(graph), []);
    });
}
