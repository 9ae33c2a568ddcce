const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** `[` and `{`, `]` and `}` differ in this bit alone. */
const CASE_BIT = 0x20;
const OPENS = 0x7b;
const CLOSES = 0x7d;

/** Far over what any operation takes. */
export const MOST_JSON_LEVELS = 64;

/**
 * Whether arrays and objects nest deeper than `most` levels. Looked at before parsing, since JSON.parse of 8 MB of brackets holds its
 * thread for seconds; text that is not JSON gets an answer too, which the parser then corrects.
 */
export function nestsDeeper(json: string, most: number): boolean {
  if (!opensOver(json, most)) return false;
  let depth = 0;
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at);
    if (code === QUOTE) at = stringEnd(json, at);
    else if ((code | CASE_BIT) === OPENS) depth++;
    else if ((code | CASE_BIT) === CLOSES) depth--;
    if (depth > most) return true;
  }
  return false;
}

/** Whether there are so many brackets at all: a search at the speed of memory, which is all that long texts and token ids cost. */
function opensOver(json: string, most: number): boolean {
  let found = 0;
  for (const bracket of ['[', '{'])
    for (let at = json.indexOf(bracket); at !== -1; at = json.indexOf(bracket, at + 1))
      if (++found > most) return true;
  return false;
}

/** Where the string that starts at a quote ends. */
function stringEnd(json: string, start: number): number {
  let end = json.indexOf('"', start + 1);
  while (end !== -1 && isEscaped(json, end)) end = json.indexOf('"', end + 1);
  return end === -1 ? json.length : end;
}

function isEscaped(json: string, at: number): boolean {
  let before = at - 1;
  while (json.charCodeAt(before) === BACKSLASH) before--;
  return (at - before) % 2 === 0;
}
