import { mkdir, readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { copyBandwidth } from './memory-bandwidth.js';
import { contextLength, type OurServer, OurService, oursOverHttp, peakResidentBytes, slots } from './ours.js';
import { llamaCpp, startLlamaServer } from './peers/llama-cpp.js';
import {
  type Bits,
  figuresOf,
  output,
  type Peer,
  peersRoot,
  promptIds,
  type SingleStream,
} from './peers/peer.js';
import { median, percentile } from './statistics.js';
import { aggregateRate, streamSse, streamTogether } from './streams.js';

const peers: readonly Peer[] = [
  llamaCpp,
  { name: 'node-llama-cpp', measure: (bits) => figuresOf('./node-llama-cpp.js', bits) },
  { name: '@huggingface/transformers', measure: (bits) => figuresOf('./transformers-js.js', bits) },
];

const [ourPort, peerPort] = [18080, 18081];
const streamPrompt = 16;
const streamTokens = 96;

/** One line of the table: what was measured, what it is compared with, and the ratio that the target is about. */
interface Row {
  readonly what: string;
  readonly ours: number;
  readonly against: string;
  readonly theirs: number;
  readonly ratio: number;
  readonly target: string;
  readonly met: boolean;
}

/**
 * Ours and the peers in one run, interleaved (A B C A B C), so that whatever else the machine does falls on all of them; medians of
 * the rounds. Prints the table of the section "Speed and memory". Usage: CHECKPOINT_DIR [rounds=3]
 */
export default async function serving(args: readonly string[]): Promise<void> {
  const [checkpoint, rounds = '3'] = args;
  if (checkpoint === undefined) throw new Error('usage: npm run bench -- serving CHECKPOINT_DIR [rounds]');
  const dataDirectory = join(peersRoot, 'instructd');
  await mkdir(dataDirectory, { recursive: true });
  const service = new OurService(dataDirectory, resolve(checkpoint));
  const rows: Row[] = [];
  for (const bits of [8, 4] as const) {
    await service.import(bits, ourPort);
    rows.push(...(await singleStreamRows(service, bits, Number(rounds))));
  }
  rows.push(...(await concurrencyRows(service, Number(rounds))));
  rows.push(...(await memoryRows(service, rows)));
  print(rows);
  process.exitCode = rows.every((row) => row.met) ? 0 : 1;
}

const atLeast = (what: string, ours: number, against: string, theirs: number, factor: number): Row => ({
  what,
  ours,
  against,
  theirs,
  ratio: ours / theirs,
  target: `>= ${factor}x`,
  met: ours >= factor * theirs,
});

const atMost = (what: string, ours: number, against: string, theirs: number, factor: number): Row => ({
  what,
  ours,
  against,
  theirs,
  ratio: ours / theirs,
  target: `<= ${factor}x`,
  met: ours <= factor * theirs,
});

async function singleStreamRows(service: OurService, bits: Bits, rounds: number): Promise<Row[]> {
  const contestants = [oursOverHttp(service, ourPort), ...peers];
  const samples = new Map<string, SingleStream[]>(contestants.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++)
    for (const contestant of contestants) samples.get(contestant.name)?.push(await contestant.measure(bits));
  const typical = (name: string, figure: keyof SingleStream) =>
    median((samples.get(name) ?? []).map((sample) => sample[figure]));
  const row = (what: string, figure: keyof SingleStream, peer: string, factor: number) =>
    atLeast(
      `${bits}-bit ${what}, tokens/s`,
      typical('instructd', figure),
      peer,
      typical(peer, figure),
      factor,
    );
  const decodes = (['decodeAt64', 'decodeAt1024'] as const).flatMap((figure) => {
    const what = figure === 'decodeAt64' ? 'decode at context 64' : 'decode at context 1,024';
    return [
      row(what, figure, 'node-llama-cpp', 2),
      row(what, figure, '@huggingface/transformers', 3),
      row(what, figure, llamaCpp.name, 1),
    ];
  });
  return [...decodes, row('prefill of 512', 'prefill512', llamaCpp.name, 1)];
}

/** Server against server, stream against engine, all at int8 with 16 slots. */
async function concurrencyRows(service: OurService, rounds: number): Promise<Row[]> {
  const rates = {
    sse: [] as number[],
    websocket: [] as number[],
    engine: [] as number[],
    llama: [] as number[],
    alone: [] as number[],
  };
  const [firstTokens, idlePrefills, steps]: [number[], number[], number[]] = [[], [], []];
  let eventLoopDelay = 0;
  for (let round = 0; round < rounds; round++) {
    {
      await using server = await service.start(8, ourPort, { slots: slots + 1, contextLength });
      await streamTogether(server, 'sse', 2, streamPrompt, 4);
      rates.alone.push(aggregateRate(await streamTogether(server, 'sse', 1, streamPrompt, streamTokens)));
      rates.sse.push(aggregateRate(await streamTogether(server, 'sse', slots, streamPrompt, streamTokens)));
      eventLoopDelay = Math.max(eventLoopDelay, await eventLoopDelayP99(server));
      rates.websocket.push(
        aggregateRate(await streamTogether(server, 'websocket', slots, streamPrompt, streamTokens)),
      );
      const load = await firstTokenUnderLoad(server, round);
      firstTokens.push(...load.underLoad);
      idlePrefills.push(load.idle);
      steps.push(load.step);
    }
    const args = [service.dataDirectory, 'bench-int8', slots, streamPrompt, streamTokens].map(String);
    const script = fileURLToPath(new URL('./engine-alone.js', import.meta.url));
    const alone = (await output(process.execPath, [script, ...args])).trim().split('\n').at(-1) ?? '';
    rates.engine.push((JSON.parse(alone) as { rate: number }).rate);
    await using peer = await startLlamaServer(8, peerPort);
    await streamTogether(peer, 'sse', 2, streamPrompt, 4);
    rates.llama.push(aggregateRate(await streamTogether(peer, 'sse', slots, streamPrompt, streamTokens)));
  }
  const [sse, websocket, engine] = [median(rates.sse), median(rates.websocket), median(rates.engine)];
  const allowed = 2 * median(idlePrefills) + median(steps);
  return [
    atLeast('16 streams over SSE, tokens/s', sse, 'our single stream', median(rates.alone), 3),
    atLeast('16 streams over SSE, tokens/s', sse, 'llama-server, 16 slots', median(rates.llama), 1.5),
    atLeast('SSE, tokens/s', sse, 'the engine alone', engine, 0.95),
    atLeast('WebSocket, tokens/s', websocket, 'the engine alone', engine, 0.95),
    atMost(
      'first token of 512 under 16 streams, ms',
      median(firstTokens),
      '2x idle prefill + a step',
      allowed,
      1,
    ),
    atMost('event-loop delay p99, ms', eventLoopDelay * 1000, 'limit', 20, 1),
  ];
}

/** Milliseconds to the first token of a 512-token prompt: idle, and while 16 streams decode. */
async function firstTokenUnderLoad(server: OurServer, round: number) {
  const firstToken = async (salt: number) => {
    const { start, firstToken } = await streamSse(server, promptIds(512, salt), 1);
    return firstToken - start;
  };
  const idle = median([
    await firstToken(1000 + round),
    await firstToken(2000 + round),
    await firstToken(3000 + round),
  ]);
  const load = streamTogether(server, 'sse', slots, streamPrompt, 400);
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const underLoad = [
    await firstToken(4000 + round),
    await firstToken(5000 + round),
    await firstToken(6000 + round),
  ];
  const streams = await load;
  const step = percentile(
    streams.map((stream) => (stream.end - stream.firstToken) / (stream.tokens - 1)),
    0.5,
  );
  return { idle, underLoad, step };
}

/** Seconds, since the metrics were last read: prom-client resets its histogram at each scrape. */
async function eventLoopDelayP99(server: OurServer): Promise<number> {
  const metrics = await fetch(`${server.url}/metrics`, {
    headers: { authorization: `Bearer ${server.key}` },
  });
  const value = /^nodejs_eventloop_lag_p99_seconds\S* (\S+)$/m.exec(await metrics.text())?.[1];
  if (value === undefined) throw new Error('/metrics has no nodejs_eventloop_lag_p99_seconds');
  return Number(value);
}

/** The keys of a checkpoint's config.json that its KV cache depends on. */
interface LlamaConfig {
  readonly hidden_size: number;
  readonly num_attention_heads: number;
  readonly num_hidden_layers: number;
  readonly num_key_value_heads: number;
}

/** Bytes a step at int8: every weight once, with its block scales; bandwidth of a copy in the same run. */
async function memoryRows(service: OurService, rows: readonly Row[]): Promise<Row[]> {
  const bandwidth = await copyBandwidth();
  const decode = rows.find((row) => row.what.startsWith('8-bit decode at context 64'))?.ours ?? Number.NaN;
  const config = JSON.parse(await readFile(join(service.checkpoint, 'config.json'), 'utf8')) as LlamaConfig;
  const headSize = config.hidden_size / config.num_attention_heads;
  const parameters = (await stat(join(service.checkpoint, 'model.safetensors'))).size / 2;
  const weights = parameters * (1 + 4 / 32);
  const kv = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * headSize * slots * contextLength;
  await using server = await service.start(8, ourPort, { slots, contextLength });
  await streamTogether(server, 'sse', slots, 500, 64);
  const peak = peakResidentBytes(server.process.pid ?? 0);
  const megabytes = (bytes: number) => bytes / 2 ** 20;
  return [
    atLeast(
      'weights read at int8, GB/s',
      (weights * decode) / 1e9,
      'copy, both directions',
      bandwidth / 1e9,
      0.7,
    ),
    atMost('peak RSS, int8, 16 x 1,024, MiB', megabytes(peak), 'weights + KV', megabytes(weights + kv), 2),
    atMost('boot to ready with the cache, s', server.secondsToReady, 'limit', 2, 1),
  ];
}

function print(rows: readonly Row[]): void {
  const figure = (value: number) => value.toFixed(value < 10 ? 2 : 0);
  console.log('| what | instructd | against | theirs | ratio | target | |');
  console.log('|---|---|---|---|---|---|---|');
  for (const row of rows)
    console.log(
      `| ${row.what} | ${figure(row.ours)} | ${row.against} | ${figure(row.theirs)} | ${row.ratio.toFixed(2)} | ${row.target} | ${row.met ? 'met' : 'missed'} |`,
    );
}
