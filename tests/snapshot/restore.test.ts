import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { apply } from "../../src/snapshot/algebra.ts";
import { DiffSet } from "../../src/snapshot/diffset.ts";
import {
  planReplication,
  type ReplicationThreshold,
  type ReplicationWay,
  replicationWay,
} from "../../src/snapshot/replicate.ts";
import { pointAt, pointOfGid, pointsInTime } from "../../src/snapshot/restore.ts";
import type { ArchiveState, Snapshot } from "../../src/snapshot/types.ts";
import { arbitraryDiffs, arbitraryState, d, names, s, st } from "../helpers/diffs.ts";

const mib = 1024 * 1024;

describe("points in time", () => {
  const set = DiffSet.from([d(0, 1, "M-", 100, 5), d(1, 4, "--", 200, 7), d(4, 5, "M-", 300, 9)]);
  const points = pointsInTime(set, st(0, undefined, 50));

  test("tell time, cost and whether somebody asked for them", () => {
    expect(points).toEqual([
      { gid: 0n, timestampS: 50, isExplicit: false, isBase: true, diffCount: 0, diffBytes: 0 },
      { gid: 1n, timestampS: 100, isExplicit: true, isBase: false, diffCount: 1, diffBytes: 5 },
      { gid: 4n, timestampS: 200, isExplicit: false, isBase: false, diffCount: 2, diffBytes: 12 },
      { gid: 5n, timestampS: 300, isExplicit: true, isBase: false, diffCount: 3, diffBytes: 21 },
    ]);
  });

  test("are found by time: the newest that is not after it", () => {
    const found = [50, 99, 100, 250, 300, 9999].map((timestampS) => pointAt(points, timestampS, 9999).gid);
    expect(found).toEqual([0n, 0n, 1n, 4n, 5n, 5n]);
  });

  test("are found by time although a clock once went back", () => {
    const odd = DiffSet.from([d(0, 1, "M-", 1000), d(1, 2, "M-", 110), d(2, 3, "M-", 120)]);
    const list = pointsInTime(odd, st(0, undefined, 50));
    expect(pointAt(list, 115, 999).gid).toBe(2n);
    expect(pointAt(list, 105, 9999).gid).toBe(0n);
    expect(pointAt(list, 5000, 9999).gid).toBe(3n);
  });

  test("are refused with their gids named for a time that was twice", () => {
    const odd = DiffSet.from([d(0, 1, "M-", 1000), d(1, 2, "M-", 110), d(2, 3, "M-", 120)]);
    const list = pointsInTime(odd, st(0, undefined, 50));
    expect(() => pointAt(list, 115, 9999)).toThrow(expect.objectContaining({ code: "not-restorable" }));
    expect(() => pointAt(list, 115, 9999)).toThrow(
      "the clock went back between gid 1 (1970-01-01T00:16:40Z) and gid 2 (1970-01-01T00:01:50Z), so that 1970-01-01T00:01:55Z was twice: it stands for gid 0 (1970-01-01T00:00:50Z) and for gid 2 (1970-01-01T00:01:50Z)",
    );
  });

  test("before the oldest are refused with the oldest named", () => {
    expect(() => pointAt(points, 49, 9999)).toThrow(expect.objectContaining({ code: "not-restorable" }));
    expect(() => pointAt(points, 49, 9999)).toThrow(
      "there is no restorable point at or before 1970-01-01T00:00:49Z; the nearest is after it gid 0 (1970-01-01T00:00:50Z)",
    );
    expect(() => pointAt([], 49, 9999)).toThrow("there is no restorable point at all");
  });

  test("that are no points are refused with their neighbours named", () => {
    expect(pointOfGid(points, 4n)).toBe(points[2]!);
    expect(() => pointOfGid(points, 3n)).toThrow(
      "gid 3 is not restorable; the nearest are before it gid 1 (1970-01-01T00:01:40Z), after it gid 4 (1970-01-01T00:03:20Z)",
    );
    expect(() => pointOfGid(points, 9n)).toThrow("the nearest is before it gid 5 (1970-01-01T00:05:00Z)");
  });
});

describe("replication", () => {
  const set = DiffSet.from([3, 4, 5, 6].map((gid) => d(gid, gid + 1, "M-", gid, mib)));
  const base = st(3, undefined, 77);
  const always: ReplicationThreshold = { unit: "size", sizeMib: 0 };
  const plan = (diffs: DiffSet, from: ArchiveState, peer: Snapshot, threshold: ReplicationThreshold) =>
    planReplication(replicationWay(diffs, from, peer), threshold);

  test("has nothing to do for a peer that is as far, or farther", () => {
    expect(plan(set, base, s(7), always)).toEqual({ kind: "none" });
    expect(plan(set, base, s(8), always)).toEqual({ kind: "none" });
  });

  test("sends diffs to a peer that is not behind the base", () => {
    for (const gid of [3, 5, 6]) {
      const step = plan(set, base, s(gid), always);
      expect(step.kind === "diff" && names(step.diffs)).toEqual(names(set).slice(gid - 3));
    }
  });

  test("waits until more than the threshold is due", () => {
    const kinds = [3, 4].map((sizeMib) => plan(set, base, s(3), { unit: "size", sizeMib }).kind);
    expect(kinds).toEqual(["diff", "none"]);
    const byGid = [3n, 4n, 7n].map((gid) => plan(set, base, s(3), { unit: "gid", gid }).kind);
    expect(byGid).toEqual(["none", "diff", "diff"]);
  });

  test("compares with the oldest clean state when the peer is behind the base", () => {
    expect(plan(set, base, s(2), always)).toEqual({
      kind: "hash",
      state: base,
      diffs: [],
      diff: d(2, 3, "MC", 77),
    });
    const dirty = plan(DiffSet.from([d(3, 5, "M-", 9), d(5, 6, "M-", 10)]), st([3, 5]), s(2), always);
    expect(dirty).toMatchObject({ kind: "hash", diff: d(2, 5, "MC", 9) });
    expect(dirty.kind === "hash" && names(dirty.diffs)).toEqual(["3-5"]);
  });

  test("compares with a state behind all that a dirty peer may contain, so that the diff can be stored", () => {
    const step = plan(set, base, s([1, 5]), always);
    expect(step).toMatchObject({ kind: "hash", diff: d([1, 5], 5, "MC", 4) });
    expect(step.kind === "hash" && names(step.diffs)).toEqual(["3-4", "4-5"]);
    expect(() => plan(set, base, s([1, 9]), always)).toThrow(expect.objectContaining({ code: "not-restorable" }));
  });

  test("compares when no diffs lead from the peer's snapshot to ours", () => {
    const compared = DiffSet.from([d(3, 6, "MC"), d(6, 7)]);
    expect(plan(compared, base, s(4), always)).toMatchObject({
      kind: "hash",
      diff: { from: s(4), to: s(6) },
    });
  });

  test("goes on along the way of a peer as if it was looked for anew", () => {
    const answer = (way: ReplicationWay, countMax: number): unknown => {
      try {
        return planReplication(way, always, countMax);
      } catch (error) {
        return `${error}`;
      }
    };
    const moves = fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 8 });
    fc.assert(
      fc.property(
        arbitraryDiffs(),
        arbitraryState(),
        moves,
        fc.integer({ min: 1, max: 4 }),
        (diffs, from, to, count) => {
          let all = DiffSet.from(diffs);
          let peer = from.from;
          let way: ReplicationWay | undefined;
          for (const move of to) {
            way = replicationWay(all, from, peer, way);
            const anew = replicationWay(all, from, peer);
            expect(way.chain.slice(way.at)).toEqual([...anew.chain]);
            expect(answer(way, count)).toEqual(answer(anew, count));
            const next = all.applicable(peer);
            // Along the way, somewhere else, or with a diff less.
            if (move < 12 && next !== undefined) peer = apply(peer, next);
            else if (move < 18) peer = s(move);
            else if (next !== undefined) all = all.erase(next);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
