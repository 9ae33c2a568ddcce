import { Rng } from '../core/rng.js';
import { answerAsTheWeb, demonstrate } from './answers.js';
import { categories, type Town, towns, verbs } from './facts.js';
import { drawPrompt, pick, pickSome, townFacts } from './prompts.js';
import type { Prompt, Task } from './task.js';

/** The datasets of the world. Everything follows from a seed; prompts of the splits never meet (split by the prompt's own hash). */

export type Split = 'train' | 'validation' | 'test';

export interface WorldPrompt {
  readonly prompt: string;
  readonly user: string;
  readonly metadata: { readonly task: Task };
}

const factSentences: Readonly<Record<(typeof townFacts)[number], readonly ((town: Town) => string)[]>> = {
  river: [(t) => `The river of ${t.name} is ${t.river}.`, (t) => `${t.name} lies on the river ${t.river}.`],
  dish: [(t) => `The famous dish of ${t.name} is ${t.dish}.`, (t) => `In ${t.name} people love ${t.dish}.`],
  mayor: [(t) => `The mayor of ${t.name} is ${t.mayor}.`, (t) => `${t.mayor} is the mayor of ${t.name}.`],
  animal: [
    (t) => `The animal on the flag of ${t.name} is ${t.animal}.`,
    (t) => `The flag of ${t.name} shows a ${t.animal}.`,
  ],
};

function prose(rng: Rng): string {
  const town = pick(rng, towns);
  const lines = pickSome(rng, townFacts, 2 + rng.below(3)).map((fact) =>
    pick(rng, factSentences[fact])(town),
  );
  const [present, past, object] = pick(rng, verbs);
  const who = pick(rng, ['Mia', 'Leo', 'Ben', 'Eve'] as const);
  const extra = [
    `${who} ${present} ${object}. Last year ${who} ${past} ${object}.`,
    `There are many ${pick(rng, Object.keys(categories))} in ${town.name}: ${pickSome(rng, Object.values(categories).flat(), 3).join(', ')}.`,
    `The ${pick(rng, categories.animals)} of ${who} is ${pick(rng, categories.colours)}.`,
  ];
  return [...lines, pick(rng, extra)].join(' ');
}

/** A document of the web: prose with facts, or a few questions with answers good and bad. No prompt of the test split is in it. */
export function webDocument(rng: Rng): string {
  if (rng.uniform() < 0.3) return prose(rng);
  return Array.from({ length: 1 + rng.below(3) }, () => {
    const prompt = drawUntested(rng);
    return prompt.prompt + answerAsTheWeb(prompt, rng);
  }).join('\n');
}

function drawUntested(rng: Rng): Prompt {
  const prompt = drawPrompt(rng);
  return splitOf(prompt.prompt) === 'test' ? drawUntested(rng) : prompt;
}

/** Rows of the pretraining corpus. The base model saw seed 1's. */
export function worldPretraining(seed: number, count: number): { readonly text: string }[] {
  const rng = new Rng(seed, 21);
  return Array.from({ length: count }, () => ({ text: webDocument(rng) }));
}

/** 0 .. 99, stable for a text (FNV-1a). */
const bucket = (text: string): number => {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % 100;
};

export const splitOf = (prompt: string): Split => {
  const place = bucket(prompt);
  return place < 70 ? 'train' : place < 85 ? 'validation' : 'test';
};

/** `count` different prompts of one split, kinds in turn. */
export function worldPrompts(seed: number, split: Split, count: number): WorldPrompt[] {
  const rng = new Rng(seed, { train: 1, validation: 2, test: 3 }[split]);
  const seen = new Map<string, Prompt>();
  for (let tries = 0; seen.size < count && tries < 200 * count; tries++) {
    const prompt = drawPrompt(rng);
    if (splitOf(prompt.prompt) === split) seen.set(prompt.prompt, prompt);
  }
  return [...seen.values()].map(({ prompt, task }, i) => ({
    prompt,
    user: `customer-${i % 97}`,
    metadata: { task },
  }));
}

export interface WorldDemonstration extends WorldPrompt {
  readonly completion: string;
  readonly labeler: string;
}

/** Demonstrations of careful labelers, on prompts of the training split. */
export function worldDemonstrations(seed: number, count: number): WorldDemonstration[] {
  const rng = new Rng(seed, 11);
  return worldPrompts(seed + 1, 'train', count).map((row) => ({
    ...row,
    completion: demonstrate({ prompt: row.prompt, task: row.metadata.task }, rng),
    labeler: `labeler-${rng.below(8)}`,
  }));
}
