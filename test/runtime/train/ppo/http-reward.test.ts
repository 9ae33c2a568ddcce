import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { openRuntime } from '../../../../src/models/runtime/open-runtime.js';
import {
  HttpReward,
  type HttpRewardOptions,
  httpRewardDefaults,
} from '../../../../src/train/ppo/http-reward.js';
import type { RewardSample } from '../../../../src/train/ppo/reward-source.js';
import { run, Scratch, smallJob, smallOptions, stepsOf } from './ppo-fixture.js';

const runtime = openRuntime({ provider: 'cpu', threads: 2 });
after(() => runtime[Symbol.dispose]());

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** A reward service on a port of its own. */
class Endpoint implements AsyncDisposable {
  readonly asked: { readonly body: Record<string, unknown>; readonly authorization: string | undefined }[] =
    [];
  readonly #server: Server;
  readonly #ready: Promise<void>;

  constructor(answer: (body: Record<string, unknown>, request: number) => Answer) {
    this.#server = createServer((request, response) => {
      void readJson(request).then((body) => {
        this.asked.push({ body, authorization: request.headers.authorization });
        const { status, body: reply } = answer(body, this.asked.length);
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(reply));
      });
    });
    this.#ready = new Promise((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  async reward(options: Partial<HttpRewardOptions> = {}): Promise<HttpReward> {
    await this.#ready;
    const url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/get_reward`;
    return new HttpReward({ ...httpRewardDefaults, url, protocol: { type: 'get_reward' }, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return JSON.parse(Buffer.concat(pieces).toString('utf8')) as Record<string, unknown>;
}

const lengths = (body: Record<string, unknown>): Answer => ({
  status: 200,
  body: { rewards: (body.query as string[]).map(({ length }) => length) },
});

const samples = ['a', 'bb', 'cccc'].map(
  (responseText): RewardSample => ({
    prompt: [],
    response: [],
    isEnded: true,
    promptText: 'Q: ',
    responseText,
  }),
);
const signal = new AbortController().signal;

test("OpenRLHF's protocol: whole texts and their prompts, in batches, scores in order", async () => {
  await using endpoint = new Endpoint(lengths);
  const reward = await endpoint.reward({ batchSize: 2, apiKey: 'secret' });
  assert.deepEqual(await reward.score(samples, signal), [4, 5, 7]);
  assert.deepEqual(
    endpoint.asked.map(({ body }) => body),
    [
      { query: ['Q: a', 'Q: bb'], prompts: ['Q: ', 'Q: '] },
      { query: ['Q: cccc'], prompts: ['Q: '] },
    ],
  );
  assert.equal(endpoint.asked[0]!.authorization, 'Bearer secret');
});

test("this service's own protocol: one input a sample", async () => {
  await using endpoint = new Endpoint((body) => ({
    status: 200,
    body: {
      data: (body.input as { completions: string[] }[]).map(({ completions }) => ({
        scores: completions.map(({ length }) => length),
      })),
    },
  }));
  const reward = await endpoint.reward({ protocol: { type: 'rewards', model: 'helpful' } });
  assert.deepEqual(await reward.score(samples, signal), [1, 2, 4]);
  assert.equal(endpoint.asked[0]!.body.model, 'helpful');
});

test('a busy endpoint is asked again, a refusal is not', async () => {
  await using busy = new Endpoint((body, request) =>
    request < 3 ? { status: 503, body: {} } : lengths(body),
  );
  assert.deepEqual(await (await busy.reward()).score(samples, signal), [4, 5, 7]);
  assert.equal(busy.asked.length, 3);
  await using refusing = new Endpoint(() => ({ status: 401, body: { error: 'no key' } }));
  await assert.rejects((await refusing.reward()).score(samples, signal), {
    code: 'reward_failed',
    message: /401.*no key/,
  });
  assert.equal(refusing.asked.length, 1);
});

test('an answer of another shape, or a NaN in it, is refused', async () => {
  for (const body of [{}, { rewards: [1] }, { rewards: [1, null, 2] }, { rewards: ['1', '2', '3'] }]) {
    await using endpoint = new Endpoint(() => ({ status: 200, body }));
    await assert.rejects((await endpoint.reward()).score(samples, signal), { code: 'reward_failed' });
  }
});

test('PPO trains on an endpoint', async () => {
  using scratch = new Scratch();
  await using endpoint = new Endpoint((body) => ({
    status: 200,
    body: {
      rewards: (body.query as string[]).map((text) => text.split('').filter((c) => c === '9').length / 6),
    },
  }));
  const options = {
    ...smallOptions,
    iterations: 15,
    batchSize: 32,
    learningRate: 2e-3,
    critic: { type: 'separate', learningRate: 2e-3 },
  } as const;
  const decode = (ids: readonly number[]) => ids.map((id) => id.toString(16)).join('');
  const steps = stepsOf(
    await run(runtime, smallJob(scratch, { options, reward: await endpoint.reward(), decode })),
  );
  assert.ok(steps.at(-1)!.rewardMean! > steps[0]!.rewardMean! + 0.2);
});
