/**
 * Encodes the same text with ours and @huggingface/tokenizers, and decodes a stream token by token; prints rates and their ratio.
 *   npm run bench -- tokenizer DIRECTORY [FILE]
 * DIRECTORY holds tokenizer.json; FILE is the text (default: this repository's own sources and documents).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer as PeerTokenizer } from '@huggingface/tokenizers';
import { loadTokenizer } from '../src/models/tokenizer/load-tokenizer.js';

const rounds = 5;
const leastBytes = 2 ** 20;

function sources(): string {
  const names = readdirSync('.', { recursive: true, encoding: 'utf8' });
  const ours = names.filter((name) => /^(src|docs|test)[/\\].*\.(ts|md)$/.test(name)).sort();
  return ours.map((name) => readFileSync(name, 'utf8')).join('\n');
}

/** Seconds of the fastest round: anything else on the machine only adds. */
function fastest(work: () => void): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    work();
    best = Math.min(best, (performance.now() - start) / 1000);
  }
  return best;
}

export default async function run([directory = '', file]: readonly string[]): Promise<void> {
  const readJson = (name: string): object =>
    JSON.parse(readFileSync(join(directory, name), 'utf8')) as object;

  const loadStart = performance.now();
  const loaded = await loadTokenizer(directory);
  const loadSeconds = (performance.now() - loadStart) / 1000;
  if (loaded === null) throw new Error(`${directory} has no tokenizer.json`);
  const { tokenizer } = loaded;
  const peerLoadStart = performance.now();
  const peer = new PeerTokenizer(readJson('tokenizer.json'), readJson('tokenizer_config.json'));
  const peerLoadSeconds = (performance.now() - peerLoadStart) / 1000;

  const once = file === undefined ? sources() : readFileSync(file, 'utf8');
  const text = once.repeat(Math.ceil(leastBytes / Buffer.byteLength(once)));
  const megabytes = Buffer.byteLength(text) / 1e6;
  const ids = tokenizer.encode(text, 'parse');
  const theirs = peer.encode(text, { add_special_tokens: false }).ids;

  const encode = megabytes / fastest(() => tokenizer.encode(text, 'parse'));
  const peerEncode = megabytes / fastest(() => peer.encode(text, { add_special_tokens: false }));
  const decode =
    ids.length /
    fastest(() => {
      const stream = tokenizer.streamDecoder();
      for (const id of ids) stream.push(id);
      stream.flush();
    });

  console.log(
    JSON.stringify(
      {
        megabytes: Number(megabytes.toFixed(2)),
        tokens: ids.length,
        sameIds: ids.join() === theirs.join(),
        encodeMegabytesPerSecond: Number(encode.toFixed(2)),
        peerMegabytesPerSecond: Number(peerEncode.toFixed(2)),
        encodeRatio: Number((encode / peerEncode).toFixed(2)),
        streamedTokensPerSecond: Math.round(decode),
        loadSeconds: Number(loadSeconds.toFixed(3)),
        peerLoadSeconds: Number(peerLoadSeconds.toFixed(3)),
      },
      null,
      2,
    ),
  );
}
