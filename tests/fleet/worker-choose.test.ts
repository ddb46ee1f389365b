import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { chooseApply, chooseMerge, chooseReplicationEnd } from "../../src/fleet/worker/choose.ts";
import type { DiffMeta } from "../../src/snapshot/types.ts";

/** `0-1 1000`, `1-2 M 1000`, `2-3 MC 1000`. */
function diffs(...texts: string[]): DiffMeta[] {
  return texts.map((text) => {
    const [, from, to, flags, size] = /^(\d+)-(\d+) ?([MC]*) ?(\d+)$/.exec(text)!;
    const at = (gid: string | undefined) => ({ gidB: BigInt(gid!), gidE: BigInt(gid!) });
    return {
      from: at(from),
      to: at(to),
      isMergeable: flags!.includes("M"),
      isCompared: flags!.includes("C"),
      timestampS: 0,
      dataSizeBytes: Number(size),
    };
  });
}

const range = (found: ReturnType<typeof chooseMerge>): [number, number] | undefined =>
  found === undefined ? undefined : [Number(found.fromGid), Number(found.toGid)];

describe("the choice of what to merge", () => {
  const head = ["0-1 1000", "1-2 M 1000", "2-3 MC 1000"];

  test("is the original's for its own examples", () => {
    const small = ["7-8 M 100", "8-9 M 100", "9-10 M 100"];
    const list = diffs(...head, "3-4 M 900", "4-5 M 1000", "5-6 MC 1000", "6-7 M 90", ...small);
    expect(range(chooseMerge(list, { countMax: 2 }))).toEqual([6, 9]);
    expect(range(chooseMerge(list))).toEqual([3, 5]);
    const other = diffs(
      ...head,
      ...["3-4 M 9000", "4-5 M 1000", "5-6 MC 1000", "6-7 M 90", "7-8 M 1000", "8-9 MC 100", "9-10 M 100"],
    );
    expect(range(chooseMerge(other))).toEqual([6, 8]);
    const wide = ["2-5 M 3728", "5-6 M 8728", "6-7 MC 1000", "7-8 M 100", "8-9 M 100", "9-10 M 100"];
    expect(range(chooseMerge(diffs("0-1 1000", "1-2 MC 1000", ...wide)))).toEqual([2, 6]);
    expect(chooseMerge(diffs("0-1 10", "1-2 MC 10", "2-3 M 10", "3-4 MC 10", "4-5 M 10"))).toBeUndefined();
  });

  test("counts only what it merges when it compares runs", () => {
    // The large compared diff behind the first run is no part of it.
    const list = diffs("0-1 10", "1-2 M 10", "2-3 MC 1000000", "3-4 M 20", "4-5 M 20", "5-6 MC 1");
    expect(range(chooseMerge(list))).toEqual([0, 2]);
  });

  test("keeps every bound, every snapshot somebody took and every gid to be kept", () => {
    const flags = fc.constantFrom("", "M", "M", "M", "MC");
    const step = fc.tuple(flags, fc.integer({ min: 0, max: 500 }));
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 30 }),
        fc.integer({ min: 1, max: 1500 }),
        fc.integer({ min: 1, max: 8 }),
        fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 5 }),
        (steps, bytesMax, countMax, kept) => {
          const list = diffs(...steps.map(([flag, size], i) => `${i}-${i + 1} ${flag} ${size}`));
          const found = chooseMerge(list, { bytesMax, countMax, keptGids: kept.map(BigInt) });
          if (found === undefined) return;
          const merged = list.slice(Number(found.fromGid), Number(found.toGid));
          expect(merged.length).toBe(found.diffCount);
          expect(merged.length).toBeGreaterThanOrEqual(2);
          expect(merged.length).toBeLessThanOrEqual(countMax + 1);
          expect(merged.reduce((sum, diff) => sum + diff.dataSizeBytes, 0)).toBe(found.bytes);
          expect(found.bytes).toBeLessThanOrEqual(bytesMax);
          expect(merged.slice(1).every((diff) => diff.isMergeable)).toBe(true);
          expect(merged.some((diff) => diff.isCompared)).toBe(false);
          expect(kept.some((gid) => found.fromGid < gid && gid < found.toGid)).toBe(false);
          expect(Number(found.toGid)).toBeLessThan(list.length);
        },
      ),
    );
  });
});

describe("the choice of what to apply", () => {
  test("is the original's for its own examples", () => {
    const points = [4, 8, 11].map((seconds, i) => ({ gid: BigInt(i), timeMs: seconds * 1000 }));
    const chosen = (limit: number): number | undefined => {
      const point = chooseApply(points, limit * 1000, 20_000);
      return point === undefined ? undefined : Number(point.gid);
    };
    expect([0, 4, 5, 8, 11, 12].map(chosen)).toEqual([undefined, undefined, undefined, 1, 2, 2]);
  });

  test("gives up no point behind which a clock was set back", () => {
    const points = [100, 200, 9000, 150, 9100, 99_000, 9200].map((timeMs, i) => ({ gid: BigInt(i), timeMs }));
    const chosen = (limitMs: number) => chooseApply(points, limitMs, 10_000)?.gid;
    expect([150, 250, 8999, 9000, 9150, 9200].map(chosen)).toEqual([undefined, 1n, 1n, 2n, 4n, 6n]);
  });
});

describe("the choice of how far to replicate", () => {
  const list = diffs(...Array.from({ length: 9 }, (_, i) => `${i}-${i + 1} M 100`));

  test("is the original's for its own examples", () => {
    const from = (gid: number, bytes: number): number | undefined => {
      const end = chooseReplicationEnd(list, bytes, BigInt(gid));
      return end === undefined ? undefined : Number(end);
    };
    expect([0, 200, 400, 600, 800, 1000].map((bytes) => from(0, bytes))).toEqual([undefined, 3, 5, 7, 9, 9]);
    expect([0, 1, 2, 5, 6, 7].map((gid) => from(gid, 200))).toEqual([3, 4, 5, 8, 9, 9]);
  });

  test("is up to the newest point for a replica that is nearly there", () => {
    expect(chooseReplicationEnd(list, 200, 8n)).toBeUndefined();
    expect(chooseReplicationEnd([], 200, 0n)).toBeUndefined();
  });

  test("always goes on, even where one diff is more than the limit", () => {
    expect(chooseReplicationEnd(list, 1, 0n)).toBe(2n);
  });
});
