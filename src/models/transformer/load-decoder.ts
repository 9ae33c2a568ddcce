/** A checkpoint directory as a session that is ready to run, with its weights mapped from the prepared file. */
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AppError } from '../../core/errors.js';
import { Checkpoint } from '../checkpoint/checkpoint.js';
import type { SafetensorsFile, StoredTensor } from '../checkpoint/safetensors.js';
import { encodeModel, type ParameterPlacement } from '../graph/onnx.js';
import type { Runtime, Session, SessionOptions } from '../runtime/session.js';
import { buildDecoder } from './build-decoder.js';
import type { DecoderGraph, WeightForm } from './decoder.js';
import { type ModelConfig, parseModelConfig } from './model-config.js';
import { prepareWeights } from './prepare-weights.js';

export interface LoadOptions {
  readonly form: WeightForm;
  /** Longest slot; at most the model's own context, which is the default. */
  readonly maxPositions?: number;
  /** Prepared weights are kept here, by content. */
  readonly cacheDirectory: string;
  /** SHA-256 of the checkpoint (ModelRecord.contentHash): what the cache is keyed by. */
  readonly contentHash: string;
  readonly session?: Omit<SessionOptions, 'initializers' | 'externalDirectory'>;
}

/** An open session and what a caller must know to feed it. The session goes with it. */
export class LoadedDecoder implements Disposable {
  readonly config: ModelConfig;
  readonly graph: DecoderGraph;
  readonly session: Session;
  /** Bytes of the weights on disk. */
  readonly weightBytes: number;

  constructor(config: ModelConfig, graph: DecoderGraph, session: Session, weightBytes: number) {
    this.config = config;
    this.graph = graph;
    this.session = session;
    this.weightBytes = weightBytes;
  }

  [Symbol.dispose](): void {
    this.session[Symbol.dispose]();
  }
}

/** Throws `checkpoint_invalid` or `model_not_supported` with the file's name. */
export function readModelConfig(directory: string): ModelConfig {
  const path = join(directory, 'config.json');
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new AppError('checkpoint_invalid', `${path} is absent or is not JSON.`, { param: path, cause });
  }
  return parseModelConfig(json);
}

/** Blocks while weights are prepared (about a second for 100M parameters) and the session opens: call it off the HTTP thread. */
export function loadDecoder(runtime: Runtime, directory: string, options: LoadOptions): LoadedDecoder {
  const { form, cacheDirectory, contentHash } = options;
  checkForm(runtime, form);
  const config = readModelConfig(directory);
  const graph = describeDecoder(directory, config, options);
  using prepared = prepareWeights(() => Checkpoint.open(directory), graph.weights, {
    directory: cacheDirectory,
    contentHash,
  });
  const session = runtime.openSession(encodeModel(graph.graph, { parameters: placementIn(prepared) }), {
    ...options.session,
    externalDirectory: dirname(prepared.file),
  });
  return new LoadedDecoder(
    config,
    graph,
    session,
    [...prepared.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
  );
}

function describeDecoder(
  directory: string,
  config: ModelConfig,
  { form, maxPositions }: LoadOptions,
): DecoderGraph {
  using checkpoint = Checkpoint.open(directory);
  return buildDecoder(config, checkpoint.tensors, {
    form,
    maxPositions: maxPositions ?? config.contextLength,
  });
}

/** CUDA attention has no float32, and the CPU's products no float16. */
function checkForm(runtime: Runtime, form: WeightForm): void {
  const isHalf = form === 'float16';
  if (isHalf === (runtime.provider === 'cuda')) return;
  throw new AppError(
    'model_not_supported',
    `Weights in ${form} do not run on ${runtime.provider}; it takes ${runtime.provider === 'cuda' ? 'float16' : 'float32, int8 or int4'}.`,
    { param: 'quantization' },
  );
}

/** Optimizers of ONNX Runtime look into weights of one element (is it a zero?), which they cannot where the bytes are outside the model. */
const INLINE_BYTES = 64;

const placementIn =
  (prepared: SafetensorsFile) =>
  ({ name }: { readonly name: string }): ParameterPlacement => {
    const tensor = prepared.tensors.get(name);
    if (tensor === undefined) throw new Error(`${prepared.file} lacks "${name}"`);
    if (tensor.byteLength <= INLINE_BYTES) return { kind: 'inline', data: contents(prepared, tensor) };
    const { offset, byteLength } = tensor;
    return { kind: 'external', file: basename(prepared.file), offset, length: byteLength };
  };

function contents(prepared: SafetensorsFile, tensor: StoredTensor): Uint8Array {
  const data = new Uint8Array(tensor.byteLength);
  prepared.readBytes(tensor, data);
  return data;
}
