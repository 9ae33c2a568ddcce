/** Writes the parts of docs/ that are tables of what the code says: `npm run docs`. The unit tests compare them. */
import { writeFileSync } from 'node:fs';
import { errorCatalog } from '../src/core/errors.js';
import { metricRows } from './metrics-table.js';

const rows = Object.entries(errorCatalog).map(
  ([code, { kind, meaning }]) => `| \`${code}\` | ${kind} | ${meaning} |`,
);

writeFileSync(
  'docs/errors.md',
  `# Errors

Every error body is \`{"error": {"message", "type", "param", "code"}}\`: the message is one sentence with the way out, \`param\` names the
field, \`code\` is stable. The kind decides the HTTP status: invalid 400, unauthenticated 401, forbidden 403, not_found 404, conflict 409,
too_large 413, overloaded 429 (with \`Retry-After\`), cancelled 499, internal 500, unsupported 422, unavailable 503; where
the meaning names another status, that one.

| code | kind | meaning |
|---|---|---|
${rows.join('\n')}
`,
);

writeFileSync(
  'docs/metrics.md',
  `# Metrics

\`GET /metrics\` answers in Prometheus' text format and needs a key (\`authorization: Bearer <key>\` in the scrape's configuration).
\`model\` is a model's name, \`route\` a path of openapi.yaml. Rates come from the counters: tokens per second are
\`rate(instructd_generation_tokens_total[1m])\`. Before there is a model or a request, each metric is there as 0 without labels. An engine whose \`slots_busy\` stays at \`slots\` while \`requests_waiting\` grows is full.

| metric | type | labels | meaning |
|---|---|---|---|
${metricRows().join('\n')}

Beside these stand the process's own, under the names that every Node service has: \`process_*\` (memory, CPU, open files) and \`nodejs_*\`
(\`nodejs_eventloop_lag_p99_seconds\`, garbage collection).
`,
);
