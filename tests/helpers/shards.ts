/** @module Dividing many seeds over test files, each short enough to be watched. */

/** How many seeds or rounds a test of the suite takes; the environment asks for more. */
export function countFrom(name: string, usual: number): number {
  const text = process.env[name];
  if (text === undefined || text === "") return usual;
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 1) throw new Error(`${name} is "${text}", not a whole number from 1`);
  return count;
}

/** Seeds [from, to) of shard `index` of `shards`. */
export function shardOf(total: number, index: number, shards: number): { from: number; to: number } {
  return { from: Math.floor((total * index) / shards), to: Math.floor((total * (index + 1)) / shards) };
}
