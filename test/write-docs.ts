/** Writes the parts of docs/ that are tables of what the code says: `npm run docs`. The unit tests compare them. */
import { writeFileSync } from 'node:fs';
import { errorCatalog } from '../src/core/errors.js';

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
