import type { TextToken } from '../models/text-model.js';
import type { Schemas } from './contract.js';

/** One token's log-probabilities as chat and responses report them. */
export const tokenLogprob = ({ text, logprob, bytes, top }: TextToken): Schemas['TokenLogprob'] => ({
  token: text,
  logprob: logprob ?? 0,
  bytes: [...bytes],
  top_logprobs: top.map((entry) => ({ token: entry.text, logprob: entry.logprob, bytes: [...entry.bytes] })),
});
