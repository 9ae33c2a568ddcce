import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Checkpoint } from '../../../src/models/checkpoint/checkpoint.js';
import { SafetensorsFile } from '../../../src/models/checkpoint/safetensors.js';
import { GraphBuilder } from '../../../src/models/graph/builder.js';
import type { Value } from '../../../src/models/graph/ir.js';
import * as op from '../../../src/models/graph/ops.js';
import { openRuntime } from '../../../src/models/runtime/open-runtime.js';
import { parseModelConfig } from '../../../src/models/transformer/model-config.js';
import { gradient } from '../../../src/train/autodiff/gradient.js';
import { decode, decoderAxes } from '../../../src/train/differentiable-decoder.js';
import { languageHead, pick, targetLogprobs } from '../../../src/train/heads.js';
import { sharedPath, skipWithoutShared } from '../../shared.js';
import { type Feed, runGraph } from './runtime-graph.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

/** PyTorch's numbers beside a tiny checkpoint. */
class Reference {
  readonly #file: SafetensorsFile;
  constructor(directory: string) {
    this.#file = new SafetensorsFile(join(directory, 'reference.safetensors'));
  }
  shape(name: string): readonly number[] {
    return this.#file.tensors.get(name)!.shape;
  }
  numbers(name: string): number[] {
    const tensor = this.#file.tensors.get(name)!;
    const bytes = new Uint8Array(4 * tensor.shape.reduce((a, b) => a * b, 1));
    this.#file.readBytes(tensor, bytes, 0);
    return [...(tensor.type === 'F32' ? new Float32Array(bytes.buffer) : new Int32Array(bytes.buffer))];
  }
}

const largestError = (found: Float32Array, expected: readonly number[]): number => {
  assert.equal(found.length, expected.length);
  const scale = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-12);
  return expected.reduce((most, x, i) => Math.max(most, Math.abs(x - found[i]!)), 0) / scale;
};

for (const architecture of ['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2']) {
  test(`the SFT loss of ${architecture} and its gradient in every parameter equal PyTorch's`, { skip: skipWithoutShared }, () => {
    const directory = sharedPath('reference', architecture);
    const config = parseModelConfig(JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8')));
    const expected = JSON.parse(readFileSync(join(directory, 'reference.json'), 'utf8')) as { sft_loss: number };
    const reference = new Reference(directory);
    using checkpoint = Checkpoint.open(directory);

    const g = new GraphBuilder('sft', decoderAxes(config));
    const tokens = g.input('tokens', 'int64', ['rows', 'time']);
    const picked = g.input('picked', 'int64', ['picked']);
    const targets = g.input('targets', 'int64', ['picked']);
    const hidden = decode(g, config, tokens, { maxTime: config.contextLength });
    const logprobs = targetLogprobs(languageHead(g, config, pick(hidden, picked)), targets);
    const loss = op.neg(op.reduceMean(logprobs, ['picked'])) as Value<'float32', readonly []>;
    g.output('loss', loss);
    const parameters = g.parameters as readonly Value<'float32'>[];
    gradient(g, loss, parameters).forEach((value, i) => g.output(`gradient of ${parameters[i]!.name}`, value));

    const [rows, time] = reference.shape('logits/input_ids') as [number, number];
    const ids = reference.numbers('logits/input_ids');
    const mask = reference.numbers('sft/response_mask');
    const positions = ids.flatMap((_, i) => (i % time < time - 1 && mask[i + 1] === 1 ? [i] : []));
    const feeds: Record<string, Feed> = {
      tokens: { type: 'int64', shape: [rows, time], data: ids },
      picked: { type: 'int64', shape: [positions.length], data: positions },
      targets: { type: 'int64', shape: [positions.length], data: positions.map((i) => ids[i + 1]!) },
    };
    const outputs: Record<string, readonly number[]> = { loss: [] };
    for (const { name, extents } of parameters) {
      const shape = extents as readonly number[];
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
      checkpoint.readFloats(checkpoint.require(name, shape), data);
      feeds[name] = { type: 'float32', shape, data };
      outputs[`gradient of ${name}`] = shape;
    }
    const found = runGraph(runtime, g, feeds, outputs);
    assert.ok(Math.abs(found.loss![0]! - expected.sft_loss) < 1e-5 * expected.sft_loss);
    for (const { name } of parameters) {
      const error = largestError(found[`gradient of ${name}`]!, reference.numbers(`sft/grad/${name}`));
      assert.ok(error < 2e-5, `${name}: ${error.toExponential(1)} of its largest element`);
    }
  });
}
