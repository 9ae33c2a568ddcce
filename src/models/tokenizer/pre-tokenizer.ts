/** Cuts a text into the pieces that merges may not cross. */
export type PreTokenizerStage =
  | {
      readonly type: 'split';
      readonly pattern: RegExp;
      /** What becomes a piece: the matches, what lies between them, or both. */
      readonly keep: 'matches' | 'gaps' | 'both';
    }
  /** Each piece gets a space in front, unless one is there. */
  | { readonly type: 'prefix_space' };

export function preTokenize(text: string, stages: readonly PreTokenizerStage[]): string[] {
  let pieces = [text];
  for (const stage of stages) {
    if (stage.type === 'prefix_space')
      pieces = pieces.map((piece) => (piece.startsWith(' ') ? piece : ` ${piece}`));
    else if (pieces.length === 1) pieces = split(pieces[0]!, stage.pattern, stage.keep);
    else {
      const out: string[] = [];
      for (const piece of pieces) for (const part of split(piece, stage.pattern, stage.keep)) out.push(part);
      pieces = out;
    }
  }
  return pieces;
}

function split(text: string, pattern: RegExp, keep: 'matches' | 'gaps' | 'both'): string[] {
  if (keep !== 'gaps') {
    const matches: string[] = text.match(pattern) ?? [];
    const covered = matches.reduce((sum, match) => sum + match.length, 0);
    if (keep === 'matches' || covered === text.length) return matches.filter(isNotEmpty);
  }
  const pieces: string[] = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    pieces.push(text.slice(end, match.index));
    if (keep === 'both') pieces.push(match[0]);
    end = match.index + match[0].length;
  }
  pieces.push(text.slice(end));
  return pieces.filter(isNotEmpty);
}

const isNotEmpty = (piece: string): boolean => piece !== '';
