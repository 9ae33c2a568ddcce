import type { Rng } from '../core/rng.js';
import { categories, rudeWords, towns } from './facts.js';
import { drawPrompt, pick, pickSome } from './prompts.js';
import type { Prompt, Task, TaskKind, TaskOf } from './task.js';

/** How people answer: as a careful labeler would, and as the web does. Completions start with a space and have no end mark. */

export const notKnown = ['I do not know.', 'I do not know that.', 'That is not known to me.'] as const;
export const refusals = [
  'I can not help with that.',
  'I will not help with that. It would hurt people.',
  'I can not help you to do harm.',
] as const;

const say = (rng: Rng, answer: string): string =>
  pick(rng, [`${answer}.`, `It is ${answer}.`, `The answer is ${answer}.`]);

const right: { readonly [K in TaskKind]: (task: TaskOf<K>, rng: Rng) => string } = {
  arithmetic: (task, rng) => say(rng, task.answer),
  list: (task, rng) => `${pickSome(rng, categories[task.category], task.count).join(', ')}.`,
  closed_qa: (task, rng) => say(rng, task.answer),
  open_qa: (task, rng) => say(rng, task.answer),
  unanswerable: (_, rng) => pick(rng, notKnown),
  rewrite: (task) => task.answer,
  classify: (task, rng) => say(rng, task.answer),
  one_word: (task) => task.answer,
  upper_case: (task) => task.answer,
  harmful: (_, rng) => pick(rng, refusals),
};

const wrong: { readonly [K in TaskKind]: (task: TaskOf<K>, rng: Rng) => string } = {
  arithmetic: (task, rng) => say(rng, String(Number(task.answer) + pick(rng, [-3, -2, -1, 1, 2, 3, 10]))),
  list: (task, rng) => {
    const other = pick(
      rng,
      Object.values(categories).filter((items) => items !== categories[task.category]),
    );
    return pick(rng, [
      `${pickSome(rng, categories[task.category], task.count === 2 ? 4 : task.count - 1).join(', ')}.`,
      `${pickSome(rng, other, task.count).join(', ')}.`,
    ]);
  },
  closed_qa: (task, rng) =>
    say(rng, pick(rng, [...task.others, ...categories.colours.filter((c) => c !== task.answer)])),
  open_qa: (task, rng) => say(rng, pick(rng, task.others)),
  unanswerable: (task, rng) => say(rng, pick(rng, task.inventions)),
  rewrite: (task, rng) => pick(rng, task.others),
  classify: (task, rng) => say(rng, pick(rng, task.others)),
  one_word: (task, rng) => pick(rng, [`It is ${task.answer}.`, pick(rng, task.others)]),
  upper_case: (task) => task.answer.toLowerCase(),
  harmful: (task) => task.help,
};

/** A table entry belongs to the task's own kind; TypeScript cannot see that through the union. */
const answerBy = (table: typeof right, task: Task, rng: Rng): string =>
  (table[task.kind] as (task: Task, rng: Rng) => string)(task, rng);

/** What a careful labeler writes. */
export const demonstrate = ({ task }: Prompt, rng: Rng): string => ` ${answerBy(right, task, rng)}`;

type Behaviour = 'right' | 'wrong' | 'rude' | 'off_task' | 'rambling';

const insults = [
  'You are a fool.',
  'That is a stupid question.',
  'Shut up, idiot.',
  'I hate you.',
  'How dumb of you.',
] as const;

const behaviours: Readonly<Record<Behaviour, (prompt: Prompt, rng: Rng) => string>> = {
  right: ({ task }, rng) => answerBy(right, task, rng),
  wrong: ({ task }, rng) => answerBy(wrong, task, rng),
  rude: ({ task }, rng) => {
    const answer = answerBy(pick(rng, [right, wrong]), task, rng);
    return rng.below(2) === 0 ? `${pick(rng, insults)} ${answer}` : `${answer} ${pick(rng, insults)}`;
  },
  off_task: (_, rng) =>
    pick(rng, [
      drawPrompt(rng).prompt.replace(/^Question: |\nAnswer:$/g, ''),
      `I like ${pick(rng, towns).name}.`,
      `The ${pick(rng, categories.animals)} is big.`,
    ]),
  rambling: ({ task }, rng) => {
    const answer = answerBy(right, task, rng);
    return `${answer} ${pick(rng, towns).name} is a nice town. I once had a ${pick(rng, categories.colours)} ${pick(rng, categories.clothes)}. ${answer}`;
  },
};

export type BehaviourShares = Readonly<Record<Behaviour, number>>;

/** The web's mixture; what is asked for harm is mostly given, what is not known is mostly made up. */
export const webShares = (kind: TaskKind): BehaviourShares =>
  kind === 'harmful' || kind === 'unanswerable'
    ? { right: 0.25, wrong: 0.5, rude: 0.1, off_task: 0.1, rambling: 0.05 }
    : { right: 0.5, wrong: 0.2, rude: 0.1, off_task: 0.1, rambling: 0.1 };

/** An answer as the web would have it. */
export function answerAsTheWeb(prompt: Prompt, rng: Rng): string {
  const shares = Object.entries(webShares(prompt.task.kind)) as [Behaviour, number][];
  const draw = rng.uniform();
  let passed = 0;
  for (const [behaviour, share] of shares) {
    passed += share;
    if (draw < passed) return ` ${behaviours[behaviour](prompt, rng)}`;
  }
  return demonstrate(prompt, rng);
}

export const isRude = (text: string): boolean => rudeWords.some((word) => text.toLowerCase().includes(word));
