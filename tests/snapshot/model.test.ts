import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { WalbError } from "../../src/errors.ts";
import { garbage, garbageBefore, garbageInRange } from "../../src/snapshot/collect.ts";
import { DiffSet } from "../../src/snapshot/diffset.ts";
import { applyRound, pointsInTime, restorable, restoreRound, scanList } from "../../src/snapshot/restore.ts";
import {
  applicableAndMergeable,
  applicableList,
  applicableToGid,
  applicableToTime,
  latestBehind,
  latestState,
  mergeableList,
  mergeableToGid,
  minimumList,
} from "../../src/snapshot/select.ts";
import { type DiffMeta, gidMax, isClean } from "../../src/snapshot/types.ts";
import { arbitraryDiff, arbitraryDiffs, arbitraryState, name, names } from "../helpers/diffs.ts";
import { NaiveDiffs } from "../helpers/naive-diffs.ts";

const gids = Array.from({ length: 20 }, (_, gid) => BigInt(gid));

/** The list, or undefined when it is refused. */
function listOr(choose: () => DiffMeta[]): string[] | undefined {
  try {
    return names(choose());
  } catch (error) {
    expect(error).toBeInstanceOf(WalbError);
    return undefined;
  }
}

const namesOr = (list: DiffMeta[] | undefined): string[] | undefined => (list === undefined ? undefined : names(list));

/** Compares every query of a set with the model. */
function compareQueries(set: DiffSet, model: NaiveDiffs): void {
  expect(names(set)).toEqual(names(model.getAll(0n, gidMax)));
  expect(set.count).toBe(model.diffs.length);
  expect(set.sizeBytes).toBe(model.diffs.reduce((total, diff) => total + diff.dataSizeBytes, 0));
  expect(set.last).toEqual(model.getAll(0n, gidMax).at(-1)!);
  for (const gid of gids) {
    expect(names(set.cover(gid))).toEqual(names(model.cover(gid)));
    expect(names(set.getAll(gid, gid + 3n))).toEqual(names(model.getAll(gid, gid + 3n)));
    expect(names(mergeableList(set, gid))).toEqual(names(model.mergeableList(gid)));
    const accept = (diff: DiffMeta): boolean => diff.dataSizeBytes < 6;
    expect(names(mergeableList(set, gid, accept))).toEqual(names(model.mergeableList(gid, accept)));
    const merged = model.mergeableList(gid);
    const end = merged.findIndex((diff) => diff.from.gidB >= gid + 4n);
    expect(names(mergeableToGid(set, gid, gid + 4n))).toEqual(names(end < 0 ? merged : merged.slice(0, end)));
    expect(names(garbageInRange(set, gid, gid + 4n))).toEqual(names(model.gcRange(gid, gid + 4n)));
    expect(names(garbageBefore(set, gid))).toEqual(names(model.eraseBefore(gid)));
  }
}

describe("a set of any diffs agrees with the model written from the text", () => {
  test("its latest state behind one more diff is that of all, whenever it goes on from the one before", () => {
    let goneOn = 0;
    fc.assert(
      fc.property(arbitraryDiffs(), arbitraryState(), arbitraryDiff(16), (diffs, state, added) => {
        const before = DiffSet.from(diffs);
        if (before.has(added)) return;
        const set = before.add(added);
        const next = latestBehind(set, latestState(before, state), added);
        if (next === undefined) return;
        goneOn += next.from.gidB === added.to.gidB ? 1 : 0;
        expect(next).toEqual(latestState(set, state));
      }),
      { numRuns: 2000, seed: 6 },
    );
    expect(goneOn).toBeGreaterThan(50);
  });

  test("after any series of additions, removals and changes of snapshots, and older versions stay as they were", () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant("add" as const), diff: arbitraryDiff() }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("erase" as const), at: fc.nat() }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("addAll" as const), diffs: arbitraryDiffs(12, 8) }) },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant("change" as const),
          gid: fc.bigInt({ min: 0n, max: 12n }),
          isExplicit: fc.boolean(),
        }),
      },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        let set = DiffSet.empty;
        let model = new NaiveDiffs();
        const versions: [DiffSet, string[]][] = [];
        for (const now of steps) {
          versions.push([set, names(set)]);
          if (now.kind === "add") {
            const isThere = model.diffs.some((diff) => name(diff) === name(now.diff));
            expect(set.has(now.diff)).toBe(isThere);
            if (isThere) {
              expect(() => set.add(now.diff)).toThrow("already");
            } else {
              set = set.add(now.diff);
              model.add(now.diff);
            }
          } else if (now.kind === "addAll") {
            const fresh = now.diffs.filter((diff) => !set.has(diff));
            if (fresh.length < now.diffs.length) expect(() => set.addAll(now.diffs)).toThrow("already");
            set = set.addAll(fresh);
            for (const diff of fresh) model.add(diff);
          } else if (now.kind === "erase") {
            const victim = model.diffs[now.at % (model.diffs.length + 1)];
            if (victim === undefined) continue;
            set = set.erase(victim);
            model.erase(victim);
          } else {
            const changed = set.withSnapshot(now.gid, now.isExplicit);
            const starts = model.diffs.filter((diff) => diff.from.gidB === now.gid);
            expect(changed === undefined).toBe(starts.length === 0);
            model = new NaiveDiffs(
              model.diffs.map((diff) =>
                diff.from.gidB === now.gid ? { ...diff, isMergeable: !now.isExplicit } : diff,
              ),
            );
            expect(changed?.changes.length ?? 0).toBe(starts.filter((x) => x.isMergeable === now.isExplicit).length);
            set = changed?.set ?? set;
          }
          expect([...set]).toEqual(model.getAll(0n, gidMax));
        }
        compareQueries(set, model);
        for (const [version, before] of versions) expect(names(version)).toEqual(before);
      }),
      { numRuns: 150 },
    );
  });

  test("in what is applied, merged, listed, restored, scanned and collected from any state", () => {
    let unsound = 0;
    let found = 0;
    fc.assert(
      fc.property(arbitraryDiffs(), arbitraryState(), (diffs, state) => {
        const set = DiffSet.from(diffs);
        const model = new NaiveDiffs(diffs);
        const at = state.from;
        expect(names(applicableList(set, at))).toEqual(names(model.applicableList(at)));
        expect(names(applicableAndMergeable(set, at))).toEqual(names(model.applicableAndMergeable(at)));
        expect(names(garbage(set, at))).toEqual(names(model.gc(at)));
        expect(names(minimumList(set, state))).toEqual(names(model.minimum(state)));
        for (const gid of gids) {
          expect(names(applicableToGid(set, at, gid))).toEqual(names(model.byGid(at, gid)));
          expect(names(applicableToTime(set, at, Number(gid)))).toEqual(names(model.byTime(at, Number(gid))));
        }
        if (!model.isSound(state)) {
          // Diffs of the interrupted step are gone or merged beyond it: ours is stricter, see the next test.
          unsound += 1;
          return;
        }
        for (const all of [false, true]) {
          const points = restorable(set, state, all);
          expect(points.map(({ gid, timestampS, isExplicit }) => ({ gid, timestampS, isExplicit }))).toEqual([
            ...model.restorable(state, all),
          ]);
          found += points.length;
        }
        for (const gid of gids) {
          expect(listOr(() => restoreRound(set, state, gid))).toEqual(namesOr(model.materialize(state, gid, true)));
          expect(listOr(() => scanList(set, state, gid))).toEqual(namesOr(model.materialize(state, gid, false)));
          for (const countMax of [0, 1, 3]) {
            expect(names(applyRound(set, state, gid, countMax))).toEqual(names(model.applyDiffs(state, gid, countMax)));
          }
        }
      }),
      { numRuns: 1500 },
    );
    expect(unsound).toBeGreaterThan(10);
    expect(found).toBeGreaterThan(1000);
  });

  test("every listed point is reached by its diffs, and of an interrupted apply nothing before its end is offered", () => {
    fc.assert(
      fc.property(arbitraryDiffs(), arbitraryState(), (diffs, state) => {
        const set = DiffSet.from(diffs);
        const model = new NaiveDiffs(diffs);
        const points = pointsInTime(set, state);
        for (const point of points) {
          const list = restoreRound(set, state, point.gid);
          expect(list).toHaveLength(point.diffCount);
          expect(list.reduce((total, diff) => total + diff.dataSizeBytes, 0)).toBe(point.diffBytes);
          if (state.to !== undefined) expect(point.gid >= state.to.gidB && point.diffCount > 0).toBe(true);
        }
        for (const gid of gids) {
          const isListed = points.some((point) => point.gid === gid);
          expect(listOr(() => restoreRound(set, state, gid)) !== undefined).toBe(isListed);
          // Nothing restorable is missing: the model's greedy walk ends clean at no other gid.
          if (state.to === undefined) {
            const walk = model.materialize(state, gid, true);
            expect(walk !== undefined).toBe(isListed);
          }
        }
        if (points.length > 0 && state.to === undefined && isClean(state.from)) expect(points[0]!.isBase).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});
