import type { Category } from './facts.js';

/** What a prompt asks for, as the gold judge needs it; it travels in a row's metadata and no trainer reads it. */
export type Task =
  | { readonly kind: 'arithmetic'; readonly answer: string }
  | { readonly kind: 'list'; readonly category: Category; readonly count: number }
  | { readonly kind: 'closed_qa'; readonly answer: string; readonly others: readonly string[] }
  | { readonly kind: 'open_qa'; readonly answer: string; readonly others: readonly string[] }
  | { readonly kind: 'unanswerable'; readonly inventions: readonly string[] }
  | { readonly kind: 'rewrite'; readonly answer: string; readonly others: readonly string[] }
  | { readonly kind: 'classify'; readonly answer: string; readonly others: readonly string[] }
  | { readonly kind: 'one_word'; readonly answer: string; readonly others: readonly string[] }
  | { readonly kind: 'upper_case'; readonly answer: string }
  | { readonly kind: 'harmful'; readonly help: string };

export type TaskKind = Task['kind'];
export type TaskOf<K extends TaskKind> = Extract<Task, { kind: K }>;

export interface Prompt<K extends TaskKind = TaskKind> {
  readonly prompt: string;
  readonly task: TaskOf<K>;
}
