import { describe, expect, test } from "bun:test";
import { garbage, garbageBefore, garbageInRange } from "../../src/snapshot/collect.ts";
import { DiffSet } from "../../src/snapshot/diffset.ts";
import {
  applyRound,
  oldestCleanState,
  pointsInTime,
  restorable,
  restoreRound,
  scanList,
} from "../../src/snapshot/restore.ts";
import {
  applicableAndMergeable,
  applicableList,
  applicableToGid,
  applicableToTime,
  latestSnapshot,
  latestState,
  mergeableList,
  mergeableToGid,
  minimumList,
  truncateList,
} from "../../src/snapshot/select.ts";
import { endState } from "../../src/snapshot/state.ts";
import type { ArchiveState } from "../../src/snapshot/types.ts";
import { d, name, names, s, st } from "../helpers/diffs.ts";

/** `gid/explicit` of the restorable points. */
function listed(set: DiffSet, state: ArchiveState, all: boolean): string[] {
  return restorable(set, state, all).map((point) => `${point.gid}/${point.isExplicit ? 1 : 0}`);
}

describe("a linear history", () => {
  const linear = DiffSet.from([
    d(0, 1, "M-", 11),
    d(1, 2, "M-", 12),
    d(2, 3, "--", 13),
    d(3, 4, "M-", 14),
    d(4, 5, "M-", 15),
  ]);

  test("lists the base, explicit snapshots and the latest; with all, implicit ones too", () => {
    expect(restorable(linear, st(0)).map((p) => [p.gid, p.timestampS, p.isExplicit])).toEqual([
      [0n, 10, false],
      [2n, 12, true],
      [5n, 15, true],
    ]);
    expect(listed(linear, st(0), true)).toEqual(["0/0", "1/0", "2/1", "3/0", "4/0", "5/1"]);
  });

  test("lists nothing before the end of an interrupted apply", () => {
    expect(listed(linear, st(0, 2), false)).toEqual(["2/0", "5/1"]);
    expect(listed(linear, st(0, 2), true)).toEqual(["2/0", "3/0", "4/0", "5/1"]);
  });

  test("snapshots become implicit and explicit by the flag of the diffs that start there", () => {
    const disabled = linear.withSnapshot(2n, false)!;
    expect(disabled.changes.map((change) => name(change.before))).toEqual(["2-3"]);
    expect(disabled.changes[0]!.after).toEqual(d(2, 3, "M-", 13));
    const enabled = disabled.set.withSnapshot(1n, true)!;
    expect(enabled.changes.map((change) => name(change.after))).toEqual(["1-2"]);
    expect(enabled.set.withSnapshot(5n, true)).toBeUndefined();
    expect(enabled.set.withSnapshot(1n, true)!.changes).toEqual([]);
    expect(listed(enabled.set, st(0), false)).toEqual(["0/0", "1/1", "5/1"]);
    expect(names(mergeableList(enabled.set, 0n))).toEqual(["0-1"]);
    expect(names(mergeableList(enabled.set, 1n))).toEqual(["1-2", "2-3", "3-4", "4-5"]);
    expect(names(mergeableList(enabled.set, 2n))).toEqual(["2-3", "3-4", "4-5"]);
    expect(mergeableList(enabled.set, 5n)).toEqual([]);
    expect(names(applicableAndMergeable(enabled.set, s(0)))).toEqual(["0-1"]);
    expect(listed(linear, st(0), false)).toEqual(["0/0", "2/1", "5/1"]);
  });

  test("is followed to a gid and to a time, merged in parts, and collected", () => {
    let set = DiffSet.from([0, 1, 2, 3, 4].map((gid) => d(gid, gid + 1, gid === 3 ? "--" : "M-", 1000 + gid)));
    expect(latestSnapshot(set, s(0))).toEqual(s(5));
    expect(applicableToGid(set, s(0), 4n)).toHaveLength(4);
    expect(applicableToTime(set, s(0), 1003)).toHaveLength(4);
    expect(mergeableList(set, 0n)).toHaveLength(3);
    expect(mergeableList(set, 3n)).toHaveLength(2);
    expect(restorable(set, st(0), true)).toHaveLength(6);
    expect(restorable(set, st(0))).toHaveLength(3);
    set = set.add(d(0, 3)).add(d(3, 5, "--"));
    const removed = garbage(set, s(0));
    expect(names(removed)).toEqual(["0-1", "1-2", "2-3", "3-4", "4-5"]);
    expect(names(set.eraseAll(removed))).toEqual(["0-3", "3-5"]);
  });
});

describe("a dirty base", () => {
  const diffs = [d(0, 5, "--"), d([5, 10], [15, 20], "--"), d(15, 20, "--"), d(20, 25, "--")];
  const set = DiffSet.from(diffs);
  const base = st([0, 10]);

  test("becomes clean where a diff makes it so", () => {
    expect(oldestCleanState(set, base).state.from).toEqual(s(20));
    expect(names(oldestCleanState(set, base).diffs)).toEqual(["0-5", "5,10-15,20", "15-20"]);
    expect(applicableList(set, base.from)).toHaveLength(4);
    expect(minimumList(set, base)).toEqual([]);
    expect(listed(set, base, false)).toEqual(["20/1", "25/1"]);
    expect(listed(set, base, true)).toEqual(["20/1", "25/1"]);
    const after = [1, 2, 3, 4].map((count) => endState(base, diffs.slice(0, count)).from);
    expect(after).toEqual([s([5, 10]), s([15, 20]), s(20), s(25)]);
  });

  test("is applied as far as a gid, but restored only to clean ones", () => {
    const sizes = [0, 5, 10, 15, 20, 25].map((gid) => applyRound(set, base, BigInt(gid)).length);
    expect(sizes).toEqual([0, 1, 1, 2, 3, 4]);
    for (const gid of [5n, 15n]) expect(() => restoreRound(set, base, gid)).toThrow("not the image of one moment");
    expect(restoreRound(set, base, 20n)).toHaveLength(3);
    expect(restoreRound(set, base, 25n)).toHaveLength(4);
    expect([0, 5, 15, 20, 25].map((gid) => scanList(set, base, BigInt(gid)).length)).toEqual([0, 1, 2, 3, 4]);
  });

  test("that was interrupted gives nothing before its end", () => {
    const applying = st([0, 10], 25);
    for (const gid of [0n, 5n, 20n, 25n]) expect(names(applyRound(set, applying, gid))).toEqual(names(diffs));
    for (const gid of [5n, 20n]) {
      expect(() => restoreRound(set, applying, gid)).toThrow("not restorable");
      expect(() => scanList(set, applying, gid)).toThrow("not restorable");
    }
    expect(restoreRound(set, applying, 25n)).toHaveLength(4);
    expect(scanList(set, applying, 25n)).toHaveLength(4);
  });

  test("of a full backup counts from the end of the copy", () => {
    const full = DiffSet.from([d(0, 1), d(1, 3, "--"), d(3, 4)]);
    expect(latestSnapshot(full, s([0, 3]))).toEqual(s(4));
    expect(latestState(full, st([0, 3])).from).toEqual(s(4));
    expect(oldestCleanState(full, st([0, 3])).state.from).toEqual(s(3));
    expect(listed(full, st([0, 3]), false)).toEqual(["4/1"]);
    expect(listed(full, st([0, 3]), true)).toEqual(["3/0", "4/1"]);
    expect(() => oldestCleanState(DiffSet.empty, st([0, 3]))).toThrow(
      expect.objectContaining({ code: "not-restorable" }),
    );
  });
});

describe("a base inside a diff, and gaps", () => {
  test("what is inside a diff is not reached", () => {
    const set = DiffSet.from([d(0, 5)]);
    for (const gid of [2n, 4n]) expect(() => restoreRound(set, st(3), gid)).toThrow("not restorable");
    expect(restoreRound(set, st(3), 3n)).toEqual([]);
    expect(restoreRound(set, st(3), 5n)).toHaveLength(1);
    expect([4n, 5n, 6n].map((gid) => applyRound(set, st(3), gid).length)).toEqual([0, 1, 1]);
  });

  test("behind a gap nothing is applicable, but the base itself is there", () => {
    const set = DiffSet.from([d(2, 5)]);
    for (const gid of [0, 10]) {
      expect(applicableList(set, s(gid))).toEqual([]);
      expect(restoreRound(set, st(gid), BigInt(gid))).toEqual([]);
    }
    expect(names(garbage(set, s(0)))).toEqual(["2-5"]);
  });

  test("limits cut the rounds, but never below what finishes an interrupted apply", () => {
    const set = DiffSet.from([0, 1, 2, 3, 4].map((gid) => d(gid, gid + 1)));
    expect(() => scanList(set, st(0), 5n, 3)).toThrow("5 diffs");
    expect(scanList(set, st(0), 5n, 5)).toHaveLength(5);
    expect(names(applyRound(set, st(0), 3n, 2))).toEqual(["0-1", "1-2"]);
    expect(names(restoreRound(set, st(0), 3n, 2))).toEqual(["0-1", "1-2"]);
    const four = ["0-1", "1-2", "2-3", "3-4"];
    expect(names(applyRound(set, st(0, 4), 2n))).toEqual(four);
    expect(names(applyRound(set, st(0, 4), 2n, 1))).toEqual(four);
    expect(() => restoreRound(set, st(0, 4), 3n)).toThrow("not restorable");
    expect(names(restoreRound(set, st(0, 4), 4n))).toEqual(four);
    expect(names(restoreRound(set, st(0, 4), 4n, 2))).toEqual(four);
  });

  test("an interrupted apply inside a merged diff is finished by the whole diff or not at all", () => {
    const set = DiffSet.from([d(0, 5)]);
    const applying = st(0, 3);
    expect(minimumList(set, applying)).toEqual([]);
    expect(applyRound(set, applying, 3n)).toEqual([]);
    expect(names(applyRound(set, applying, 5n))).toEqual(["0-5"]);
    expect(() => restoreRound(set, applying, 3n)).toThrow("not restorable");
    expect(names(restoreRound(set, applying, 5n))).toEqual(["0-5"]);
    // The original offers its start, whose blocks may be overwritten already: never do that.
    expect(() => restoreRound(set, applying, 0n)).toThrow("not restorable");
    expect(pointsInTime(set, applying).map((point) => point.gid)).toEqual([5n]);
  });

  test("an interrupted apply whose diffs are gone is damage, and nothing of the image is offered", () => {
    const set = DiffSet.from([d(0, 1)]);
    const applying = st(0, 4);
    expect(pointsInTime(set, applying)).toEqual([]);
    for (const choose of [applyRound, restoreRound, scanList]) {
      for (const gid of [0n, 1n, 4n]) {
        expect(() => choose(set, applying, gid)).toThrow(expect.objectContaining({ code: "damaged" }));
      }
    }
    expect(() => oldestCleanState(set, applying)).toThrow(expect.objectContaining({ code: "damaged" }));
  });
});

describe("overlapping merged diffs", () => {
  const units = [0, 1, 2, 3, 4].map((gid) => d(gid, gid + 1));

  test("the furthest is taken, and collection keeps exactly what is taken", () => {
    let set = DiffSet.from([...units, d(0, 3), d(1, 5)]);
    expect(names(applicableList(set, s(0)))).toEqual(["0-3", "1-5"]);
    set = set.eraseAll(garbage(set, s(0)));
    expect(names(set)).toEqual(["0-3", "1-5"]);
    set = set.add(d(3, 5));
    set = set.eraseAll(garbage(set, s(0)));
    expect(names(set)).toEqual(["0-3", "3-5"]);
    const other = DiffSet.from([d(0, 1), d(2, 3), d(4, 5), d(0, 3), d(2, 5)]);
    expect(names(other.eraseAll(garbage(other, s(0))))).toEqual(["0-3", "2-5"]);
  });

  test("the choice is greedy: what the furthest diff passes over is out of reach", () => {
    const set = DiffSet.from([d(0, 1), d(1, 2), d(2, 3), d(3, 4), d(0, 2), d(1, 4)]);
    expect(names(applicableList(set, s(0)))).toEqual(["0-2", "1-4"]);
    expect(names(applicableToGid(set, s(0), 3n))).toEqual(["0-2"]);
  });

  test("a compared diff is taken only at its exact start and never merged", () => {
    const set = DiffSet.from([d(0, 2), d(2, 5, "MC"), d(5, 6), d(1, 2)]);
    expect(names(applicableList(set, s(0)))).toEqual(["0-2", "2-5", "5-6"]);
    expect(applicableList(set, s(3))).toEqual([]);
    expect(names(mergeableList(set, 0n))).toEqual(["0-2"]);
    expect(names(mergeableList(set, 2n))).toEqual(["2-5"]);
  });

  test("what a merged range makes redundant, and what an image at a gid does not need", () => {
    let set = DiffSet.from([d(0, 1), d(0, 2), d(1, 2), d(1, 3), d(2, 3), d(2, 4)]);
    const inRange = garbageInRange(set, 1n, 3n);
    expect(names(inRange)).toEqual(["1-2", "2-3"]);
    set = set.eraseAll(inRange);
    const before = garbageBefore(set, 2n);
    expect(names(before)).toEqual(["0-1", "0-2"]);
    set = set.eraseAll(before);
    expect(names(set)).toEqual(["1-3", "2-4"]);
    expect([set.gidMin, set.gidMax]).toEqual([1n, 4n]);
    expect([DiffSet.empty.gidMin, DiffSet.empty.gidMax]).toEqual([0n, 0n]);
    expect(garbageInRange(set, 3n, 3n)).toEqual([]);
    expect(garbageBefore(set, 0n)).toEqual([]);
  });
});

describe("the set itself", () => {
  test("refuses equal ends whatever the flags, and diffs that break a constraint", () => {
    const set = DiffSet.from([d(0, 1, "M-", 5)]);
    expect(() => set.add(d(0, 1, "-C", 9))).toThrow(expect.objectContaining({ code: "already-exists" }));
    expect(() => DiffSet.from([d(0, 1), d(1, 2), d(0, 1)])).toThrow(
      expect.objectContaining({ code: "already-exists" }),
    );
    expect(() => set.add({ ...d(1, 2), to: s(1) })).toThrow(expect.objectContaining({ code: "bad-format" }));
    expect(set.add(d(0, [1, 2])).count).toBe(2);
    expect(set.count).toBe(1);
  });

  test("gives ranges by start, in order of addition among equal starts", () => {
    const set = DiffSet.from([d(2, 3), d(0, 9), d(0, 1), d(0, [1, 4]), d(1, 2)]);
    expect(names(set.getAll())).toEqual(["0-9", "0-1", "0-1,4", "1-2", "2-3"]);
    expect(names(set.getAll(0n, 1n))).toEqual(["0-9", "0-1", "0-1,4"]);
    expect(names(set.getAll(1n, 2n))).toEqual(["1-2"]);
    expect(names(set.cover(1n))).toEqual(["0-9", "1-2"]);
    expect(() => set.getAll(1n, 1n)).toThrow("empty");
    expect(name(set.last!)).toBe("2-3");
    expect(DiffSet.empty.last).toBeUndefined();
    expect(set.erase(d(7, 8))).toBe(set);
    expect(set.get(d(1, 2, "--"))).toEqual(d(1, 2));
  });

  test("works at the end of the gids", () => {
    const top = 2n ** 64n - 1n;
    const diff = { ...d(0, 1), from: { gidB: top - 1n, gidE: top - 1n }, to: { gidB: top, gidE: top } };
    const set = DiffSet.from([diff]);
    expect(set.getAll()).toEqual([diff]);
    expect(set.cover(top)).toEqual([]);
    expect(latestSnapshot(set, diff.from)).toEqual(diff.to);
    expect(names(mergeableToGid(set, top - 1n))).toHaveLength(1);
  });

  test("a list to merge is cut by size and count, but keeps its first", () => {
    const list = [d(0, 1, "M-", 0, 50), d(1, 2, "M-", 0, 30), d(2, 3, "M-", 0, 20), d(3, 4, "M-", 0, 1)];
    expect(truncateList(list, { sizeBytesMax: 100 })).toHaveLength(3);
    expect(truncateList(list, { sizeBytesMax: 10 })).toHaveLength(1);
    expect(truncateList(list, { sizeBytesMax: 100, countMax: 2 })).toHaveLength(2);
    expect(truncateList(list, { countMax: 0 })).toHaveLength(1);
    expect(truncateList(list, {})).toHaveLength(4);
    expect(truncateList([], { countMax: 1 })).toEqual([]);
    const set = DiffSet.from(list);
    expect(names(mergeableToGid(set, 1n, 3n))).toEqual(["1-2", "2-3"]);
    expect(set.sizeBytes).toBe(101);
  });

  test("a hundred thousand diffs, most of them overlapping, are followed, listed and collected", () => {
    const count = 100_000;
    const units = Array.from({ length: count }, (_, gid) => d(gid, gid + 1, "M-", gid, 1));
    // Compared diffs that cover every gid thousandfold.
    const long = Array.from({ length: count / 10 }, (_, at) => d([at, at + 1], at + 5000, "MC"));
    let set = DiffSet.from([...units, ...long]);
    expect(set.cover(9_000n)).toHaveLength(5_001);
    expect(names(applicableList(set, s(0)).slice(0, 2))).toEqual(["0,1-5000", "5000,5001-10000"]);
    set = set.eraseAll(long);
    const points = pointsInTime(set, st(0));
    expect(points).toHaveLength(count + 1);
    expect(points.at(-1)).toMatchObject({ gid: BigInt(count), diffCount: count, diffBytes: count, isExplicit: true });
    expect(mergeableList(set, 0n)).toHaveLength(count);
    expect(garbageBefore(set, BigInt(count / 2))).toHaveLength(count / 2);
    expect(garbage(set, s(count - 1))).toHaveLength(count - 1);
  });
});
