import { check } from 'k6';
import http from 'k6/http';
import * as scenario from './scenario.ts';

export { setup } from './scenario.ts';

/** Whole answers: POST /v1/completions. There is no first token to see, so only errors and tokens/s have thresholds. */

const { failed, tokens } = scenario.options.thresholds;
export const options = { ...scenario.options, thresholds: { failed, tokens } };

interface Completion {
  readonly choices: readonly { readonly text: string; readonly finish_reason: string }[];
  readonly usage: scenario.Usage;
}

export default function complete(): void {
  const response = http.post(`${scenario.url}/v1/completions`, JSON.stringify(scenario.body()), {
    headers: scenario.headers,
  });
  const isWhole = check(response, {
    'answered 200': ({ status }) => status === 200,
    'has a text and a reason': (answer) => {
      const choice = (answer.json() as unknown as Completion).choices?.[0];
      return choice !== undefined && choice.text.length > 0 && choice.finish_reason !== null;
    },
  });
  scenario.failed.add(!isWhole);
  if (isWhole) scenario.tokens.add((response.json() as unknown as Completion).usage.completion_tokens);
}
