import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import koffi from 'koffi';
import { AppError } from '../../core/errors.js';

/**
 * A file's bytes at an address, read only. Mapped where the system can: pages come when they are read and are the page cache's own, so
 * the file is in memory once however many map it. The file must not be truncated meanwhile: ours are replaced by renaming.
 */
export class MappedFile implements Disposable {
  readonly path: string;
  readonly byteLength: number;
  readonly address: bigint;
  readonly #memory: FileMemory;
  #disposed = false;

  constructor(path: string) {
    try {
      this.path = path;
      this.byteLength = statSync(path).size;
      this.#memory = process.platform === 'win32' ? readWhole(path) : mapWhole(path, this.byteLength);
      this.address = this.#memory.address;
    } catch (cause) {
      throw new AppError('runtime_failed', `Mapping ${path} into memory failed: ${messageOf(cause)}.`, {
        param: path,
        cause,
      });
    }
  }

  /** Gives the pages back to the system; they come again when they are read. */
  releasePages(): void {
    this.#memory.releasePages();
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#memory.free();
  }
}

interface FileMemory {
  readonly address: bigint;
  releasePages(): void;
  free(): void;
}

const PROT_READ = 1;
const MAP_PRIVATE = 2;
const MAP_FAILED = 2n ** 64n - 1n;
const MADV_DONTNEED = 4;

/** mmap(2). */
function mapWhole(path: string, byteLength: number): FileMemory {
  const libc = koffi.load(null);
  const mmap = libc.func(
    'void* mmap(void* hint, size_t bytes, int protection, int flags, int file, int64_t offset)',
  );
  const munmap = libc.func('int munmap(void* address, size_t bytes)');
  const madvise = libc.func('int madvise(void* address, size_t bytes, int advice)');
  const file = openSync(path, 'r');
  try {
    const address = mmap(null, byteLength, PROT_READ, MAP_PRIVATE, file, 0) as bigint;
    if (address === MAP_FAILED) throw new Error(`mmap gave errno ${koffi.errno()}`);
    return {
      address,
      releasePages: () => void madvise(address, byteLength, MADV_DONTNEED),
      free: () => void munmap(address, byteLength),
    };
  } finally {
    // The mapping outlives the descriptor.
    closeSync(file);
  }
}

function readWhole(path: string): FileMemory {
  let bytes: Buffer | null = readFileSync(path);
  return {
    address: koffi.address(bytes.buffer) + BigInt(bytes.byteOffset),
    releasePages: () => {},
    free: () => {
      bytes = null;
    },
  };
}

const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown));
