import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import koffi from 'koffi';
import { AppError } from '../../core/errors.js';
import { API_VERSION, type OrtApi, readOrtApi } from './ort-api.js';

/** The loaded shared library. It stays loaded for the life of the process. */
export interface OrtLibrary {
  readonly api: OrtApi;
  /** ONNX Runtime's version, such as `1.30.0`. */
  readonly version: string;
  /** Where provider libraries have to stand: ONNX Runtime looks for them beside itself. */
  readonly folder: string;
}

const fileName: Partial<Record<NodeJS.Platform, string>> = {
  linux: 'libonnxruntime.so.1',
  darwin: 'libonnxruntime.1.dylib',
  win32: 'onnxruntime.dll',
};

/** ONNX Runtime 1.N serves the API versions 1..N. */
export function serves(version: string, apiVersion: number): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 1 || (major === 1 && minor >= apiVersion);
}

function libraryPath(): string {
  const name = fileName[process.platform];
  const main = createRequire(import.meta.url).resolve('onnxruntime-node');
  const path = join(dirname(main), '..', 'bin', 'napi-v6', process.platform, process.arch, name ?? '');
  if (name !== undefined && existsSync(path)) return path;
  throw new AppError(
    'runtime_failed',
    `onnxruntime-node has no library for ${process.platform} ${process.arch}: ${path} is not there.`,
  );
}

const RTLD_LAZY = 1;

let loaded: OrtLibrary | null = null;

/** @throws AppError `runtime_failed` where the library is absent or older than the functions we call. */
export function loadOrtLibrary(): OrtLibrary {
  loaded ??= load(libraryPath());
  return loaded;
}

function load(path: string): OrtLibrary {
  preferMlasAttention();
  const handle = koffi.load(path);
  pin(path);
  const base = handle.func('void* OrtGetApiBase()')() as bigint;
  const [getApi, getVersion] = koffi.decode(base, 'void*', 2) as [bigint, bigint];
  const version = koffi.call(getVersion, koffi.proto('const char* OrtGetVersionString()')) as string;
  if (!serves(version, API_VERSION)) {
    throw new AppError(
      'runtime_failed',
      `${path} is ONNX Runtime ${version}; 1.${API_VERSION} or later is needed: npm install onnxruntime-node.`,
    );
  }
  const api = koffi.call(getApi, koffi.proto('void* OrtGetApi(uint32_t version)'), API_VERSION) as bigint;
  return { api: readOrtApi(api), version, folder: dirname(path) };
}

/**
 * ONNX Runtime 1.30 has two GroupQueryAttentions on the CPU and takes the newer, whose decode step is portable C++ and up to 2.5 times as
 * slow as the older one's, which calls MLAS (docs/performance.md). What chooses is this variable, read when a session is created.
 * process.env would not do: a worker thread's is a copy. A value from outside stays, so that either can be measured.
 */
function preferMlasAttention(): void {
  if (process.platform === 'win32') return;
  const setenv = koffi.load(null).func('int setenv(const char* name, const char* value, int overwrite)');
  setenv('ORT_GQA_DISABLE_FLASH_ATTENTION', '1', 0);
}

/**
 * koffi unloads a library when its handle is collected or its worker thread ends, but functions reached through the table do not keep
 * the handle, and a session's threads run the library's code until the session is released. One more `dlopen` keeps it for good.
 */
function pin(path: string): void {
  if (process.platform === 'win32')
    koffi.load('kernel32.dll').func('void* LoadLibraryA(const char* path)')(path);
  else koffi.load(null).func('void* dlopen(const char* path, int flags)')(path, RTLD_LAZY);
}
