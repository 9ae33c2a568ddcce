import { AppError } from '../../core/errors.js';
import type { CudaDevice } from './cuda-driver.js';
import { OrtTensor } from './device-tensor.js';
import { describe } from './element-type.js';
import { Lifetime } from './memory.js';
import { created, type OrtApi, type Pointer } from './ort-api.js';
import type { Binding, BindingOptions, DeviceTensor, ValueInfo } from './session.js';

/** What a binding needs of its session. */
export interface BindingOwner {
  readonly api: OrtApi;
  readonly pointer: Pointer<'OrtSession'>;
  readonly lifetime: Lifetime;
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  /** null on the CPU. On CUDA a host tensor is copied to the device when it is bound, so it is bound again for each run. */
  readonly device: CudaDevice | null;
}

export class OrtBinding implements Binding {
  readonly #owner: BindingOwner;
  readonly #pointer: Pointer<'OrtIoBinding'>;
  readonly #runOptions: Pointer<'OrtRunOptions'> | null;
  readonly #inputs = new Map<string, OrtTensor>();
  readonly #outputs = new Map<string, OrtTensor>();
  readonly #copiedAtBind = new Set<string>();
  readonly #lifetime: Lifetime;
  readonly #isCaptured: boolean;
  #running = false;

  constructor(owner: BindingOwner, { graphId }: BindingOptions, onDispose: () => void) {
    const { api } = owner;
    this.#owner = owner;
    this.#isCaptured = graphId !== undefined;
    this.#pointer = created((out) => api.CreateIoBinding(owner.pointer, out));
    const runOptions = this.#createRunOptions(graphId);
    this.#runOptions = runOptions;
    this.#lifetime = new Lifetime(() => {
      api.ReleaseIoBinding(this.#pointer);
      if (runOptions !== null) api.ReleaseRunOptions(runOptions);
      onDispose();
    });
  }

  bindInput(name: string, tensor: DeviceTensor): void {
    const bound = this.#accept('input', this.#owner.inputs, name, tensor);
    this.#bindNative(this.#owner.api.BindInput, name, bound);
    this.#inputs.set(name, bound);
    if (this.#owner.device !== null && bound.memory.host !== null) this.#copiedAtBind.add(name);
    else this.#copiedAtBind.delete(name);
  }

  bindOutput(name: string, tensor: DeviceTensor): void {
    const bound = this.#accept('output', this.#owner.outputs, name, tensor);
    this.#bindNative(this.#owner.api.BindOutput, name, bound);
    this.#outputs.set(name, bound);
  }

  run(): void {
    this.#prepareRun();
    this.#owner.api.RunWithBinding(this.#owner.pointer, this.#runOptions, this.#pointer);
  }

  async runAsync(): Promise<void> {
    if (this.#isCaptured) {
      throw new AppError(
        'runtime_failed',
        'A binding with a graphId runs on one thread: call run, not runAsync.',
      );
    }
    this.#prepareRun();
    const held = [this.#lifetime, this.#owner.lifetime];
    const memories = [...this.#inputs.values(), ...this.#outputs.values()].map(({ memory }) => memory);
    this.#running = true;
    for (const each of [...held, ...memories]) each.hold();
    try {
      await this.#owner.api.runWithBindingAsync(this.#owner.pointer, this.#runOptions, this.#pointer);
    } finally {
      this.#running = false;
      for (const each of [...memories, ...held]) each.unhold();
    }
  }

  [Symbol.dispose](): void {
    this.#lifetime.dispose();
  }

  /** ONNX Runtime would find most of this out too, but only in the run, and without saying which tensor was meant. */
  #accept(
    role: 'input' | 'output',
    values: readonly ValueInfo[],
    name: string,
    tensor: DeviceTensor,
  ): OrtTensor {
    this.#assertIdle();
    const value = values.find((candidate) => candidate.name === name);
    if (value === undefined) {
      const names = values.map((candidate) => candidate.name).join(', ');
      throw new AppError('runtime_failed', `The graph has no ${role} "${name}"; it has ${names}.`, {
        param: name,
      });
    }
    if (!(tensor instanceof OrtTensor)) {
      throw new AppError(
        'runtime_failed',
        `The tensor for ${role} "${name}" was not allocated by a Runtime.`,
      );
    }
    tensor.assertAlive();
    if (tensor.type === value.type && fits(tensor.shape, value.shape)) return tensor;
    throw new AppError(
      'runtime_failed',
      `The graph's ${role} "${name}" is ${describe(value.type, value.shape)}, the tensor is ${tensor}.`,
      { param: name },
    );
  }

  #bindNative(bind: OrtApi['BindInput'], name: string, tensor: OrtTensor): void {
    const value = tensor.createValue(this.#owner.api);
    try {
      // The binding takes a reference of its own.
      bind(this.#pointer, name, value);
    } finally {
      this.#owner.api.ReleaseValue(value);
    }
  }

  #prepareRun(): void {
    this.#assertIdle();
    if (this.#inputs.size < this.#owner.inputs.length) {
      const missing = this.#owner.inputs
        .filter(({ name }) => !this.#inputs.has(name))
        .map(({ name }) => name);
      throw new AppError('runtime_failed', `No tensor is bound to input ${missing.join(', ')}.`);
    }
    for (const tensor of this.#inputs.values()) tensor.assertAlive();
    for (const tensor of this.#outputs.values()) tensor.assertAlive();
    for (const name of this.#copiedAtBind) {
      this.#bindNative(this.#owner.api.BindInput, name, this.#inputs.get(name) as OrtTensor);
    }
    this.#owner.device?.settle();
  }

  #createRunOptions(graphId: number | undefined): Pointer<'OrtRunOptions'> | null {
    const { api, device } = this.#owner;
    if (device === null) return null;
    const options = created<Pointer<'OrtRunOptions'>>((out) => api.CreateRunOptions(out));
    // -1: neither capture nor replay (onnxruntime_run_options_config_keys.h, gpu_graph_id).
    api.AddRunConfigEntry(options, 'gpu_graph_id', String(graphId ?? -1));
    return options;
  }

  #assertIdle(): void {
    if (this.#lifetime.disposed || this.#owner.lifetime.disposed) {
      throw new AppError(
        'runtime_failed',
        'A binding was used after it or its session had been disposed of.',
      );
    }
    if (this.#running)
      throw new AppError('runtime_failed', 'A binding was used while a run of it was going on.');
  }
}

const fits = (shape: readonly number[], declared: readonly (number | null)[]): boolean =>
  shape.length === declared.length && declared.every((size, axis) => size === null || size === shape[axis]);
