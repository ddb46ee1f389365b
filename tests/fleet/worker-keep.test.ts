import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseDuration } from "../../src/cli/text/time.ts";
import { type KeepPoint, parseKeep, planRetention } from "../../src/fleet/worker/keep.ts";
import { planThinning } from "../../src/fleet/worker/thin.ts";
import type { DiffMeta } from "../../src/snapshot/types.ts";

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const now = Date.UTC(2026, 10, 21, 14, 3, 5);
const keep = (rules: Record<string, string>) => parseKeep(rules, parseDuration, "volumes.vol0.keep");
const points = (times: readonly number[], protectedGids: readonly number[] = []): KeepPoint[] =>
  times.map((timeMs, i) => ({ gid: BigInt(i), timeMs, isProtected: protectedGids.includes(i) }));
const keptTimes = (list: readonly KeepPoint[], rules: Record<string, string>, at = now): number[] => {
  const { kept } = planRetention(list, keep(rules), at);
  return kept.map(({ gid }) => list.find((point) => point.gid === gid)!.timeMs);
};

describe("rules of retention", () => {
  test("are read from the fleet file", () => {
    const rules = keep({ daily: "14d", all: "2h", every5m: "1d", hourly: "3d", monthly: "forever" });
    expect(rules.map(({ name }) => name)).toEqual(["all", "every5m", "hourly", "daily", "monthly"]);
  });

  test("that make no sense are named", () => {
    for (const [name, value] of [
      ["fortnightly", "1d"],
      ["every0m", "1d"],
      ["daily", "soon"],
      ["daily", "0s"],
      ["toString", "1d"],
    ] as const) {
      expect(() => keep({ [name]: value })).toThrow(expect.objectContaining({ code: "usage" }));
    }
  });
});

describe("retention", () => {
  test("without rules keeps everything", () => {
    expect(planRetention(points([1, 2, 3]), [], now).droppedGids).toEqual([]);
  });

  test("keeps what was written while the clock was behind or ahead as long as its neighbours", () => {
    const list = points([now - hour, now - 30 * day, now - 30 * day + 1, now - minute, now + 300 * day, now]);
    expect(planRetention(list, keep({ all: "2h" }), now).droppedGids).toEqual([]);
    const later = now + 3 * hour;
    expect(planRetention(list, keep({ all: "2h" }), later).droppedGids).toEqual([0n, 1n, 2n, 3n, 4n]);
  });

  test("keeps a point of each day that came while the clock had been ahead for one of them, also when that time is over", () => {
    const start = Date.UTC(2026, 10, 1, 12);
    const days = Array.from({ length: 20 }, (_, i) => start + i * day);
    const list = points(days.with(1, days[18]!));
    for (const at of [days[17]! + hour, days[18]! + hour, days[19]! + hour]) {
      const known = list.slice(0, Math.floor((at - start) / day) + 1);
      expect(planRetention(known, keep({ daily: "30d" }), at).droppedGids).toEqual([]);
    }
  });

  test("keeps all points for a time, then the last one of each hour", () => {
    const start = Date.UTC(2026, 10, 21, 8);
    const list = points(Array.from({ length: 37 }, (_, i) => start + i * 10 * minute));
    const kept = keptTimes(list, { all: "2h", hourly: "1d" });
    // 12:03 is two hours ago; its hour is thinned as a whole, later.
    const thinned = [8, 9, 10, 11].map((h) => Date.UTC(2026, 10, 21, h, 50));
    expect(kept).toEqual([
      ...thinned,
      ...list.map(({ timeMs }) => timeMs).filter((t) => t >= Date.UTC(2026, 10, 21, 12)),
    ]);
  });

  test("keeps what is protected, and the newest point, whatever their age", () => {
    const list = points([now - 900 * day, now - 800 * day, now - 700 * day], [0]);
    const { kept, droppedGids } = planRetention(list, keep({ all: "1d" }), now);
    expect(kept.map(({ gid, reasons }) => [gid, ...reasons])).toEqual([
      [0n, "protected"],
      [2n, "newest"],
    ]);
    expect(droppedGids).toEqual([1n]);
  });

  const rules = { all: "2h", every5m: "1d", hourly: "3d", daily: "14d", monthly: "1000d" };
  const history = fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 120 }).map((gaps) => {
    let at = now;
    return gaps.map((gap) => (at -= gap * minute)).toReversed();
  });

  test("asked again after what it dropped is gone drops nothing more", () => {
    fc.assert(
      fc.property(history, (times) => {
        const list = points(times);
        const first = planRetention(list, keep(rules), now);
        const left = list.filter(({ gid }) => !first.droppedGids.includes(gid));
        expect(planRetention(left, keep(rules), now).droppedGids).toEqual([]);
      }),
    );
  });

  test("leaves a point in every interval of every rule, however often it was run before", () => {
    fc.assert(
      fc.property(history, fc.array(fc.integer({ min: 0, max: 20_000 }), { maxLength: 20 }), (times, looks) => {
        let list = points(times);
        const all = list;
        const moments = looks.map((m) => now - m * minute).toSorted((a, b) => a - b);
        for (const at of [...moments, now]) {
          const seen = list.filter(({ timeMs }) => timeMs <= at);
          const gone = new Set(planRetention(seen, keep(rules), at).droppedGids);
          list = list.filter(({ gid }) => !gone.has(gid));
        }
        for (const { forMs, intervalStartMs } of keep(rules)) {
          const wanted = all.filter(({ timeMs }) => timeMs >= now - forMs).map(({ timeMs }) => intervalStartMs(timeMs));
          const found = new Set(list.map(({ timeMs }) => intervalStartMs(timeMs)));
          expect(wanted.filter((start) => !found.has(start))).toEqual([]);
        }
      }),
    );
  });
});

describe("thinning", () => {
  const diff = (from: number, to: number, flags = "M"): DiffMeta => ({
    from: { gidB: BigInt(from), gidE: BigInt(from) },
    to: { gidB: BigInt(to), gidE: BigInt(to) },
    isMergeable: flags.includes("M"),
    isCompared: flags.includes("C"),
    timestampS: 0,
    dataSizeBytes: 1,
  });
  const plan = (diffs: readonly DiffMeta[], kept: readonly number[]) => {
    const gids = [diffs[0]!.from.gidB, ...diffs.map(({ to }) => to.gidB)];
    const keptGids = new Set(kept.map(BigInt));
    const droppedGids = gids.filter((gid) => !keptGids.has(gid));
    return planThinning({ baseGid: gids[0]!, diffs, keptGids, droppedGids });
  };

  test("moves the base to the oldest kept point, and merges between kept ones", () => {
    const diffs = [diff(0, 1), diff(1, 2), diff(2, 3), diff(3, 4, ""), diff(4, 5), diff(5, 6)];
    expect(plan(diffs, [1, 4, 6])).toMatchObject([
      { kind: "apply", gid: 1n, droppedCount: 1 },
      { kind: "merge", fromGid: 1n, toGid: 4n, disableGids: [3n], droppedCount: 2 },
      { kind: "merge", fromGid: 4n, toGid: 6n, disableGids: [], droppedCount: 1 },
    ]);
  });

  test("does nothing where nothing goes, and leaves compared diffs alone", () => {
    const diffs = [diff(0, 1), diff(1, 2, "MC"), diff(2, 3)];
    expect(plan(diffs, [0, 1, 2, 3])).toEqual([]);
    expect(plan(diffs, [0, 3])).toEqual([]);
  });

  test("never merges a kept point away, and drops nothing but what is to go", () => {
    const flags = fc.constantFrom("", "M", "M", "MC");
    fc.assert(
      fc.property(
        fc.array(flags, { minLength: 1, maxLength: 30 }),
        fc.array(fc.integer({ min: 0, max: 30 })),
        (list, keptList) => {
          const diffs = list.map((flag, i) => diff(i, i + 1, flag));
          const kept = new Set([...keptList.filter((gid) => gid <= list.length), list.length]);
          for (const step of plan(diffs, [...kept])) {
            for (const gid of kept) {
              if (step.kind === "apply") expect(BigInt(gid)).toBeGreaterThanOrEqual(step.gid);
              else expect(step.fromGid < BigInt(gid) && BigInt(gid) < step.toGid).toBe(false);
            }
            if (step.kind === "merge") {
              const inside = diffs.slice(Number(step.fromGid) + 1, Number(step.toGid));
              const mustDisable = inside.filter(({ isMergeable }) => !isMergeable).map(({ from }) => from.gidB);
              expect(step.disableGids).toEqual(mustDisable);
            }
          }
        },
      ),
    );
  });
});
