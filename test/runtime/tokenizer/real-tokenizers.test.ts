import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Tokenizer as PeerTokenizer } from '@huggingface/tokenizers';
import { loadTokenizer } from '../../../src/models/tokenizer/load-tokenizer.js';
import type { Tokenizer } from '../../../src/models/tokenizer/tokenizer.js';
import { randomStrings, trickyStrings } from './corpus.js';
import { type RealTokenizer, tokenizerDirectory } from './real-tokenizers.js';

const corpus = [...trickyStrings, ...randomStrings(12_000, 1)];

interface Expectation {
  /** SHA-256 over the corpus' ids by the Rust tokenizers 0.23.3, by reference-ids.py: control tokens parsed, then as text. */
  readonly parse: string;
  readonly as_text: string;
  /** Strings that @huggingface/tokenizers 0.2.0 encodes otherwise than the Rust library. */
  readonly peerDiffers: number;
}

const expected = {
  smollm2: {
    parse: '6be8cae1867b2e05b7c598adc5ad0118da282781be4b1157708a99f36394d92e',
    as_text: '5247d155112c641fe59bb4ecb6e2eb85bf0b31e7dbcd364b4975b69a02be7f7c',
    peerDiffers: 1684,
  },
  llama3: {
    parse: 'ac1fca831af721358df005b96b1831ed9bc5ce9f39b6684fd33bf22678c0c8e4',
    as_text: '7bd75ea37ee6d1ab5ccf6b80ed780a7a8d0981f347489941b1f4bac2d5ebb8b6',
    peerDiffers: 0,
  },
  llama3_1: {
    parse: 'ac1fca831af721358df005b96b1831ed9bc5ce9f39b6684fd33bf22678c0c8e4',
    as_text: '7bd75ea37ee6d1ab5ccf6b80ed780a7a8d0981f347489941b1f4bac2d5ebb8b6',
    peerDiffers: 0,
  },
  qwen3: {
    parse: 'ad278088a574c9c781e20ed52998b142a1d58d08ed34f2c1352a871155c4be55',
    as_text: '587e71964516663352c50bde7864fe5799ec761fc09c7bb4b42287b894206241',
    peerDiffers: 0,
  },
  gpt4o: {
    parse: 'c8b376208c44cf158e79c3152381f3be787ad61330ccc86f1ff0509a4aef85a4',
    as_text: '3050348f5e5be8eca19e7e3b5574eafd99a70c9626b14802b167f111400e29c1',
    peerDiffers: 0,
  },
} satisfies Record<RealTokenizer, Expectation>;

/**
 * What the JavaScript peer reads otherwise than the Rust library on SmolLM2's pre-tokenizer: `\s` as JavaScript has it (U+FEFF in, U+0085
 * out), only ASCII digits cut off, and the bytes that have no token.
 */
const peerCause = /[\u0085\ufeff\u{40000}-\u{7ffff}]|(?![0-9])\p{N}/u;
const tokenlessControls = ['\u0004', '\u0006', '\u0013', '\u0014', '\u0016', '\u001d'];
const peerMayDiffer = (text: string): boolean =>
  peerCause.test(text) || tokenlessControls.some((control) => text.includes(control));

const digest = (lists: readonly (readonly number[])[]): string =>
  createHash('sha256')
    .update(lists.map((ids) => `${ids.join(' ')}\n`).join(''))
    .digest('hex');

const readJson = (directory: string, name: string): object =>
  JSON.parse(readFileSync(join(directory, name), 'utf8')) as object;

async function load(name: RealTokenizer): Promise<{ tokenizer: Tokenizer; peer: PeerTokenizer } | null> {
  const directory = tokenizerDirectory(name);
  if (directory === null) return null;
  const loaded = await loadTokenizer(directory);
  assert.ok(loaded !== null);
  const peer = new PeerTokenizer(
    readJson(directory, 'tokenizer.json'),
    readJson(directory, 'tokenizer_config.json'),
  );
  return { tokenizer: loaded.tokenizer, peer };
}

for (const [name, { parse, as_text, peerDiffers }] of Object.entries(expected) as [
  RealTokenizer,
  Expectation,
][]) {
  test(`${name}: ${corpus.length} strings have the ids of the Rust tokenizers`, async (context) => {
    const loaded = await load(name);
    if (loaded === null) {
      assert.notEqual(process.env.CI, 'true', `${name} must be there in CI`);
      return context.skip(`${name}'s tokenizer.json cannot be had here`);
    }
    const { tokenizer, peer } = loaded;
    const ids = corpus.map((text) => tokenizer.encode(text, 'parse'));
    const differing = corpus.filter((text, index) => {
      const theirs = peer.encode(text.replace(/\p{Surrogate}/gu, '\ufffd'), {
        add_special_tokens: false,
      }).ids;
      return theirs.join() !== ids[index]!.join();
    });
    assert.deepEqual(
      differing.filter((text) => !peerMayDiffer(text)),
      [],
    );
    assert.equal(differing.length, peerDiffers);
    assert.equal(digest(ids), parse);
    assert.equal(digest(corpus.map((text) => tokenizer.encode(text, 'as_text'))), as_text);
  });

  test(`${name}: streamed decodes are the whole decodes`, async (context) => {
    const loaded = await load(name);
    if (loaded === null) return context.skip(`${name}'s tokenizer.json cannot be had here`);
    const { tokenizer } = loaded;
    for (const text of corpus.slice(0, 3000)) {
      const ids = tokenizer.encode(text, 'parse');
      const stream = tokenizer.streamDecoder();
      const streamed = ids.map((id) => stream.push(id)).join('') + stream.flush();
      assert.equal(streamed, tokenizer.decode(ids));
    }
  });
}
