/**
 * What recomputing layers saves and costs: peak memory and time of a forward and backward pass, each in a process of its own.
 *
 *     npm run bench -- recompute-memory
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { openRuntime } from '../src/models/runtime/open-runtime.js';
import { parseModelConfig } from '../src/models/transformer/model-config.js';
import { byLayer } from '../src/train/autodiff/recompute.js';
import { floatFeed, languageFeeds, languageLossGraph } from '../src/train/language-loss.js';
import { layoutOf } from '../src/train/model-weights.js';
import { ParameterArena } from '../src/train/optim/parameter-arena.js';
import { LossSession } from '../src/train/step.js';

const [ROWS, TIME] = [8, 256];

/** A llama of 12 layers, width 256. */
const config = parseModelConfig({
  model_type: 'llama',
  vocab_size: 2048,
  hidden_size: 256,
  intermediate_size: 688,
  num_hidden_layers: 12,
  num_attention_heads: 8,
  max_position_embeddings: TIME,
  tie_word_embeddings: true,
});

function measure(mode: string): { readonly peakMegabytes: number; readonly seconds: number } {
  const runtime = openRuntime({ provider: 'cpu' });
  const layout = layoutOf(config, ['language']);
  const parameters = new ParameterArena(runtime, layout);
  const gradients = new ParameterArena(runtime, layout);
  parameters.flat.host!.fill(0.01);
  const graph = languageLossGraph(config, { maxTime: TIME });
  const session = new LossSession(
    runtime,
    mode === 'recomputed' ? { ...graph, segmentOf: byLayer } : graph,
    layout,
  );
  const rows = Array.from({ length: ROWS }, () => ({
    tokens: new Int32Array(TIME).fill(3),
    start: TIME - 32,
  }));
  const { feeds, picked } = languageFeeds(rows);
  const weights = floatFeed(new Float32Array(picked).fill(1 / picked));
  const step = () => session.run({ ...feeds, weights }, parameters, gradients);
  step();
  const started = performance.now();
  for (let i = 0; i < 3; i++) step();
  const seconds = (performance.now() - started) / 3000;
  return { peakMegabytes: process.resourceUsage().maxRSS / 1024, seconds };
}

/** Without a mode both are measured, each in its own process; with one, that one's figures are printed as JSON. */
export default async function bench([mode]: readonly string[]): Promise<void> {
  if (mode !== undefined) {
    console.log(JSON.stringify(measure(mode)));
    return;
  }
  const runner = fileURLToPath(new URL('./run.js', import.meta.url));
  const rows = ['kept', 'recomputed'].map((activations) => {
    const output = execFileSync(process.execPath, [runner, 'recompute-memory', activations], {
      encoding: 'utf8',
    });
    return { activations, ...(JSON.parse(output) as ReturnType<typeof measure>) };
  });
  console.table(rows);
}
