import { expect, test } from "bun:test";
import { IntervalIndex } from "../../src/log/intervals.ts";
import { TestRandom } from "./doubles.ts";

test("the interval index equals a naive array under random sets, clears and removals", () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const random = new TestRandom(seed);
    const size = 3000;
    const index = new IntervalIndex<number>();
    const model = new Array<number>(size).fill(0);
    for (let step = 1; step <= 900; step += 1) {
      const start = random.between(0, size - 1);
      const end = Math.min(size, start + random.between(1, random.chance(0.03) ? 1500 : 6));
      const choice = random.fraction();
      if (choice < 0.75) {
        index.set(start, end, step);
        model.fill(step, start, end);
      } else if (choice < 0.8) {
        index.clear(start, end);
        model.fill(0, start, end);
      } else {
        const owner = model[random.between(0, size - 1)]!;
        index.remove(start, end, owner);
        // Owners are removed with a range that covers them, so pieces lie inside or outside of it.
        if (owner !== 0) {
          index.remove(0, size, owner);
          for (let i = 0; i < size; i += 1) if (model[i] === owner) model[i] = 0;
        }
      }
      if (step % 30 !== 0) continue;
      const from = random.between(0, size - 1);
      const to = random.between(from + 1, size);
      const seen = new Array<number>(size).fill(0);
      let lastEnd = from;
      index.visit(from, to, (pieceStart, pieceEnd, owner) => {
        expect(pieceStart).toBeGreaterThanOrEqual(lastEnd);
        expect(pieceEnd).toBeGreaterThan(pieceStart);
        lastEnd = pieceEnd;
        seen.fill(owner, pieceStart, pieceEnd);
      });
      expect(seen.slice(from, to)).toEqual(model.slice(from, to));
    }
  }
});
