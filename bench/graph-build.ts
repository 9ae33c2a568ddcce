import { encodeModel } from '../src/models/graph/onnx.js';
import { buildDecoder } from '../src/models/transformer/build-decoder.js';
import { parseModelConfig } from '../src/models/transformer/model-config.js';

/** SmolLM2-135M's published dimensions. */
const config = parseModelConfig({
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  hidden_size: 576,
  intermediate_size: 1536,
  num_hidden_layers: 30,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  head_dim: 64,
  hidden_act: 'silu',
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
  rope_theta: 100_000,
  tie_word_embeddings: true,
  vocab_size: 49_152,
});
const names = { has: () => false };
const rounds = 50;

const median = (times: readonly number[]): number => times.toSorted((a, b) => a - b)[times.length >> 1]!;

/** Milliseconds to build and verify a decoder of 30 layers, and to write it as ONNX bytes: the first time and at the median. */
export default async function graphBuild(): Promise<void> {
  const builds: number[] = [];
  const encodings: number[] = [];
  let nodes = 0;
  let bytes = 0;
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    const { graph } = buildDecoder(config, names, { form: 'int8', maxPositions: 2048 });
    const built = performance.now();
    const model = encodeModel(graph);
    encodings.push(performance.now() - built);
    builds.push(built - start);
    nodes = graph.nodes.length;
    bytes = model.byteLength;
  }
  console.log(`${nodes} nodes, ${bytes} bytes; ms      first  median of ${rounds}`);
  console.log(`build and verify               ${builds[0]!.toFixed(1)}  ${median(builds).toFixed(2)}`);
  console.log(`encode                         ${encodings[0]!.toFixed(1)}  ${median(encodings).toFixed(2)}`);
}
