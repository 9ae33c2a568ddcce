/** Branded scalars: a number that carries its unit. A brand costs nothing at run time. */

declare const unit: unique symbol;
type Branded<Base, Unit extends string> = Base & { readonly [unit]: Unit };

/** Index into a model's vocabulary. */
export type TokenId = Branded<number, 'TokenId'>;
export type Milliseconds = Branded<number, 'Milliseconds'>;
export type Bytes = Branded<number, 'Bytes'>;
/** Natural-log units: log-probabilities, KL, entropy. */
export type Nats = Branded<number, 'Nats'>;
/** Index of a KV-cache slot of an engine. */
export type SlotIndex = Branded<number, 'SlotIndex'>;

export const tokenId = (value: number): TokenId => value as TokenId;
export const milliseconds = (value: number): Milliseconds => value as Milliseconds;
export const bytes = (value: number): Bytes => value as Bytes;
export const nats = (value: number): Nats => value as Nats;
export const slotIndex = (value: number): SlotIndex => value as SlotIndex;

const BYTE_UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** For people: 269060552 -> '269 MB'. */
export function formatBytes(count: number): string {
  const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), BYTE_UNITS.length - 1);
  const value = count / 1000 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${BYTE_UNITS[power]}`;
}
