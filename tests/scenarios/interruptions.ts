/** @module In which orders daemons can be stopped and started again. */
import type { Seeded } from "../../src/cli/demo/files.ts";

export interface Interruption {
  readonly name: string;
  readonly isStart: boolean;
}

/** All orders of stopping and starting each set of up to all of the servers, each started after it was stopped. */
export function interruptions(names: readonly string[]): Interruption[][] {
  const sets = Array.from({ length: 2 ** names.length - 1 }, (_, i) =>
    names.filter((_name, bit) => (i + 1) & (1 << bit)),
  );
  return sets.flatMap((set) => ordersOf(set, []));
}

function ordersOf(toStop: readonly string[], toStart: readonly string[]): Interruption[][] {
  if (toStop.length === 0 && toStart.length === 0) return [[]];
  const stopped = toStop.flatMap((name) =>
    ordersOf(without(toStop, name), [...toStart, name]).map((rest) => [{ name, isStart: false }, ...rest]),
  );
  const started = toStart.flatMap((name) =>
    ordersOf(toStop, without(toStart, name)).map((rest) => [{ name, isStart: true }, ...rest]),
  );
  return [...stopped, ...started];
}

function without(names: readonly string[], name: string): string[] {
  return names.filter((other) => other !== name);
}

export function shuffled<T>(items: readonly T[], random: Seeded): T[] {
  const rest = [...items];
  return items.map(() => rest.splice(random.below(rest.length), 1)[0]!);
}
