import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openProgress } from '../../../src/cli/progress.js';

class Sink {
  text = '';
  readonly columns = 60;
  readonly isTTY: boolean;
  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }
  write(text: string): void {
    this.text += text;
  }
}

const run = (sink: Sink, asJson: boolean, tick = () => {}) => {
  using progress = openProgress(sink, asJson);
  for (let done = 0; done <= 1000; done += 10) {
    progress.show({ label: 'copy', of: { done: done * 1e6, total: 1e9 } });
    tick();
  }
  progress.show({ label: 'prepare', of: null });
  tick();
};

test('a pipe gets one line a tenth and no terminal codes', () => {
  const sink = new Sink(false);
  run(sink, false);
  const lines = sink.text.trimEnd().split('\n');
  assert.equal(lines.length, 12);
  assert.equal(lines[5], 'copy 50% of 1.0 GB');
  assert.equal(lines.at(-1), 'prepare');
  assert.ok(!sink.text.includes('\u001b'));
});

test('a terminal gets one line that redraws itself, never wider than the terminal, and is left clean', (context) => {
  context.mock.timers.enable({ apis: ['setInterval', 'Date'] });
  const sink = new Sink(true);
  run(sink, false, () => context.mock.timers.tick(100));
  const frames = sink.text.split('\r\u001b[2K').slice(1);
  assert.ok(frames.length > 50);
  assert.ok(frames.every((frame) => frame.length < sink.columns && !frame.includes('\n')));
  assert.ok(frames.some((frame) => frame.startsWith('copy [============            ] 50% of 1.0 GB')));
  assert.equal(frames.at(-1), '');
});

test('machines get no progress', () => {
  const sink = new Sink(true);
  run(sink, true);
  assert.equal(sink.text, '');
});
