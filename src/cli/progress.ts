import { formatBytes } from '../core/units.js';

/** One step of a long command: how far it is, where that is known. */
export interface Step {
  readonly label: string;
  /** Bytes; null while the end is not known. */
  readonly of: { readonly done: number; readonly total: number } | null;
}

/** Shows steps while a command runs. */
export interface Progress extends Disposable {
  show(step: Step): void;
}

export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const FRAME_MS = 100;
const BAR = 24;
const ERASE_LINE = '\r\u001b[2K';
const TENTHS = 10;

/** A bar that redraws itself on a terminal, a line every tenth elsewhere (logs, pipes), nothing at all with --json. */
export function openProgress(stream: ProgressStream, asJson: boolean): Progress {
  if (asJson) return { show() {}, [Symbol.dispose]() {} };
  return stream.isTTY === true ? new TerminalBar(stream) : new PlainLines(stream);
}

class TerminalBar implements Progress {
  readonly #stream: ProgressStream;
  readonly #timer: NodeJS.Timeout;
  #started = Date.now();
  #step: Step | null = null;

  constructor(stream: ProgressStream) {
    this.#stream = stream;
    this.#timer = setInterval(() => this.#draw(), FRAME_MS).unref();
  }

  show(step: Step): void {
    if (step.label !== this.#step?.label) this.#started = Date.now();
    this.#step = step;
  }

  #draw(): void {
    if (this.#step === null) return;
    const { label, of } = this.#step;
    const seconds = (Date.now() - this.#started) / 1000;
    const line =
      of === null
        ? `${label} ${seconds.toFixed(0)} s`
        : `${label} ${bar(of)} ${amount(of)}${left(of, seconds)}`;
    this.#stream.write(ERASE_LINE + line.slice(0, (this.#stream.columns ?? 80) - 1));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#stream.write(ERASE_LINE);
  }
}

class PlainLines implements Progress {
  readonly #stream: ProgressStream;
  #last = '';

  constructor(stream: ProgressStream) {
    this.#stream = stream;
  }

  show({ label, of }: Step): void {
    const tenth = of === null ? 0 : Math.floor((of.done / Math.max(of.total, 1)) * TENTHS);
    const key = `${label} ${tenth}`;
    if (key === this.#last) return;
    this.#last = key;
    this.#stream.write(of === null ? `${label}\n` : `${label} ${amount(of)}\n`);
  }

  [Symbol.dispose](): void {}
}

type Extent = NonNullable<Step['of']>;

const share = ({ done, total }: Extent): number => (total === 0 ? 1 : Math.min(done / total, 1));

const bar = (of: Extent): string => {
  const filled = Math.round(share(of) * BAR);
  return `[${'='.repeat(filled)}${' '.repeat(BAR - filled)}]`;
};

const amount = (of: Extent): string => `${Math.floor(share(of) * 100)}% of ${formatBytes(of.total)}`;

const left = (of: Extent, seconds: number): string => {
  const part = share(of);
  return part > 0.02 && part < 1 && seconds > 1 ? `, ${Math.ceil((seconds / part) * (1 - part))} s left` : '';
};
