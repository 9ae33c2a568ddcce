import koffi from 'koffi';
import { AppError } from '../../core/errors.js';

/**
 * ONNX Runtime's C API. `OrtApi` is a struct of function pointers that only ever grows at its end, so a function is its index; indexes
 * and signatures are those of onnxruntime_c_api.h (API version 22), written as the header writes them but for `const` of handles.
 * TypeScript's signatures are derived from the same strings. A call that returns an OrtStatus throws it as an AppError.
 */

/** The API version asked of the library: the oldest that has every function below with today's meaning. */
export const API_VERSION = 22;

declare const pointee: unique symbol;
/** A native address that knows what it points to. Who creates one releases it. */
export type Pointer<T extends string> = bigint & { readonly [pointee]: T };
/** An out-parameter: element 0 is written by the call. */
export type Out<T> = [T | null];

const statusFunctions = {
  CreateEnv: [3, 'int severity, const char* id, _Out_ OrtEnv** env'],
  CreateSessionFromArray: [
    8,
    'OrtEnv* env, const uint8_t* model, size_t bytes, OrtSessionOptions* options, _Out_ OrtSession** session',
  ],
  CreateSessionOptions: [10, '_Out_ OrtSessionOptions** options'],
  EnableProfiling: [14, 'OrtSessionOptions* options, const char* prefix'],
  DisableMemPattern: [17, 'OrtSessionOptions* options'],
  DisableCpuMemArena: [19, 'OrtSessionOptions* options'],
  SetSessionLogSeverityLevel: [22, 'OrtSessionOptions* options, int severity'],
  SetSessionGraphOptimizationLevel: [23, 'OrtSessionOptions* options, int level'],
  SetIntraOpNumThreads: [24, 'OrtSessionOptions* options, int threads'],
  SetInterOpNumThreads: [25, 'OrtSessionOptions* options, int threads'],
  SessionGetInputCount: [30, 'OrtSession* session, _Out_ size_t* count'],
  SessionGetOutputCount: [31, 'OrtSession* session, _Out_ size_t* count'],
  SessionGetInputTypeInfo: [33, 'OrtSession* session, size_t index, _Out_ OrtTypeInfo** info'],
  SessionGetOutputTypeInfo: [34, 'OrtSession* session, size_t index, _Out_ OrtTypeInfo** info'],
  SessionGetInputName: [36, 'OrtSession* session, size_t index, OrtAllocator* allocator, _Out_ char** name'],
  SessionGetOutputName: [37, 'OrtSession* session, size_t index, OrtAllocator* allocator, _Out_ char** name'],
  CreateRunOptions: [39, '_Out_ OrtRunOptions** options'],
  CreateTensorWithDataAsOrtValue: [
    49,
    'OrtMemoryInfo* info, void* data, size_t bytes, const int64_t* shape, size_t rank, int type, _Out_ OrtValue** value',
  ],
  CastTypeInfoToTensorInfo: [55, 'OrtTypeInfo* info, _Out_ OrtTensorTypeAndShapeInfo** tensor'],
  GetTensorElementType: [60, 'OrtTensorTypeAndShapeInfo* info, _Out_ int* type'],
  GetDimensionsCount: [61, 'OrtTensorTypeAndShapeInfo* info, _Out_ size_t* rank'],
  GetDimensions: [62, 'OrtTensorTypeAndShapeInfo* info, int64_t* sizes, size_t rank'],
  CreateMemoryInfo: [68, 'const char* name, int allocator, int device, int kind, _Out_ OrtMemoryInfo** info'],
  CreateCpuMemoryInfo: [69, 'int allocator, int kind, _Out_ OrtMemoryInfo** info'],
  AllocatorFree: [76, 'OrtAllocator* allocator, void* memory'],
  GetAllocatorWithDefaultOptions: [78, '_Out_ OrtAllocator** allocator'],
  SessionEndProfiling: [110, 'OrtSession* session, OrtAllocator* allocator, _Out_ char** path'],
  AddSessionConfigEntry: [130, 'OrtSessionOptions* options, const char* key, const char* value'],
  RunWithBinding: [133, 'OrtSession* session, OrtRunOptions* options, OrtIoBinding* binding'],
  CreateIoBinding: [134, 'OrtSession* session, _Out_ OrtIoBinding** binding'],
  BindInput: [136, 'OrtIoBinding* binding, const char* name, OrtValue* value'],
  BindOutput: [137, 'OrtIoBinding* binding, const char* name, OrtValue* value'],
  AddInitializer: [150, 'OrtSessionOptions* options, const char* name, OrtValue* value'],
  AddRunConfigEntry: [165, 'OrtRunOptions* options, const char* key, const char* value'],
  SessionOptionsAppendExecutionProvider_CUDA_V2: [
    204,
    'OrtSessionOptions* options, OrtCUDAProviderOptionsV2* cuda',
  ],
  CreateCUDAProviderOptions: [205, '_Out_ OrtCUDAProviderOptionsV2** cuda'],
  UpdateCUDAProviderOptions: [
    206,
    'OrtCUDAProviderOptionsV2* cuda, const char** keys, const char** values, size_t count',
  ],
  AddExternalInitializers: [
    210,
    'OrtSessionOptions* options, const char** names, const OrtValue** values, size_t count',
  ],
} as const satisfies Record<string, readonly [number, string]>;

const releaseFunctions = {
  ReleaseEnv: [92, 'OrtEnv* env'],
  ReleaseStatus: [93, 'OrtStatus* status'],
  ReleaseMemoryInfo: [94, 'OrtMemoryInfo* info'],
  ReleaseSession: [95, 'OrtSession* session'],
  ReleaseValue: [96, 'OrtValue* value'],
  ReleaseRunOptions: [97, 'OrtRunOptions* options'],
  ReleaseTypeInfo: [98, 'OrtTypeInfo* info'],
  ReleaseSessionOptions: [100, 'OrtSessionOptions* options'],
  ReleaseIoBinding: [135, 'OrtIoBinding* binding'],
  ReleaseCUDAProviderOptions: [208, 'OrtCUDAProviderOptionsV2* cuda'],
} as const satisfies Record<string, readonly [number, string]>;

const GET_ERROR_MESSAGE = 2;

/** What a C parameter is in TypeScript. */
interface ScalarOf {
  int: number;
  size_t: number;
  'const char*': string;
  'const char**': readonly string[];
  'const OrtValue**': readonly Pointer<'OrtValue'>[];
  'const uint8_t*': Uint8Array;
  'const int64_t*': BigInt64Array;
  'int64_t*': BigInt64Array;
  'void*': bigint;
}
type ArgumentOf<C extends string> = C extends `_Out_ ${infer T}**`
  ? Out<Pointer<T>>
  : C extends `_Out_ ${string}*`
    ? Out<number>
    : C extends keyof ScalarOf
      ? ScalarOf[C]
      : // Run options may be absent; every other handle must be there.
        C extends 'OrtRunOptions*'
        ? Pointer<'OrtRunOptions'> | null
        : C extends `${infer T}*`
          ? Pointer<T>
          : never;
/** `OrtEnv* env` -> `OrtEnv*`: the type is all words but the last. */
type TypeOf<P extends string> = P extends `_Out_ ${infer T} ${string}`
  ? `_Out_ ${T}`
  : P extends `const ${infer T} ${string}`
    ? `const ${T}`
    : P extends `${infer T} ${string}`
      ? T
      : never;
type ArgumentsOf<S extends string> = S extends `${infer P}, ${infer Rest}`
  ? [ArgumentOf<TypeOf<P>>, ...ArgumentsOf<Rest>]
  : [ArgumentOf<TypeOf<S>>];
type Functions<Table extends Record<string, readonly [number, string]>> = {
  readonly [Name in keyof Table]: (...args: ArgumentsOf<Table[Name][1]>) => void;
};

export type OrtApi = Functions<typeof statusFunctions> &
  Functions<typeof releaseFunctions> & {
    /** RunWithBinding on a thread of the FFI; everything passed must live until the promise settles. */
    runWithBindingAsync(
      session: Pointer<'OrtSession'>,
      options: Pointer<'OrtRunOptions'> | null,
      binding: Pointer<'OrtIoBinding'>,
    ): Promise<void>;
    /** Takes over a string that ONNX Runtime allocated. */
    takeString(allocator: Pointer<'OrtAllocator'>, text: Pointer<'char'>): string;
  };

interface NativeFunction {
  (...args: readonly unknown[]): unknown;
  readonly async: (...args: readonly unknown[]) => void;
}

/** A function of the table as koffi calls it. Handles are `void*` to koffi, whose pointers are plain numbers. */
function nativeFunction(
  table: readonly bigint[],
  name: string,
  index: number,
  result: string,
  parameters: string,
): NativeFunction {
  const erased = parameters
    .replaceAll(/(?:const )?Ort\w+\*/g, 'void*')
    .replaceAll('_Out_ char**', '_Out_ void**');
  return koffi.decode(table[index], koffi.proto(`${result} ${name}(${erased})`)) as NativeFunction;
}

/**
 * @param api Address of the `OrtApi` struct that `OrtApiBase::GetApi(API_VERSION)` returned.
 */
export function readOrtApi(api: bigint): OrtApi {
  const indexes = [...Object.values(statusFunctions), ...Object.values(releaseFunctions)].map(([at]) => at);
  const table = koffi.decode(api, 'void*', Math.max(...indexes) + 1) as readonly bigint[];
  const errorMessage = nativeFunction(
    table,
    'GetErrorMessage',
    GET_ERROR_MESSAGE,
    'const char*',
    'OrtStatus* status',
  );

  const functions: Record<string, (...args: readonly unknown[]) => void> = {};
  for (const [name, [index, parameters]] of Object.entries(releaseFunctions)) {
    functions[name] = nativeFunction(table, name, index, 'void', parameters);
  }
  const failure = (status: unknown): AppError => {
    const message = String(errorMessage(status)).trim();
    functions.ReleaseStatus?.(status);
    return new AppError('runtime_failed', `ONNX Runtime: ${message}`);
  };
  const natives = Object.entries(statusFunctions).map(
    ([name, [index, parameters]]) => [name, nativeFunction(table, name, index, 'void*', parameters)] as const,
  );
  for (const [name, native] of natives) {
    functions[name] = (...args) => {
      const status = native(...args);
      if (status !== null) throw failure(status);
    };
  }

  const run = Object.fromEntries(natives).RunWithBinding as NativeFunction;
  const { AllocatorFree } = functions;
  return {
    ...(functions as unknown as Functions<typeof statusFunctions> & Functions<typeof releaseFunctions>),
    runWithBindingAsync: (session, options, binding) =>
      new Promise((resolve, reject) => {
        run.async(session, options, binding, (thrown: unknown, status: unknown) => {
          if (thrown) reject(thrown);
          else if (status !== null) reject(failure(status));
          else resolve();
        });
      }),
    takeString: (allocator, text) => {
      const copy = koffi.decode.string(text);
      AllocatorFree?.(allocator, text);
      return copy;
    },
  };
}

/** Calls a creating function and returns what it wrote: `created((out) => api.CreateIoBinding(session, out))`. */
export function created<T>(create: (out: Out<T>) => void): T {
  const out: Out<T> = [null];
  create(out);
  return out[0] as T;
}
