import { describe, expect, test } from "bun:test";
import {
  apply,
  applyAll,
  canApplyAll,
  canMerge,
  canMergeAll,
  contains,
  maxProgress,
  merge,
  mergeAll,
  type Relation,
  relation,
} from "../../src/snapshot/algebra.ts";
import { beginState, canApplyToState, endState } from "../../src/snapshot/state.ts";
import { applyingState, checkDiffMeta, diffMeta, gidMax, plainState, snapshot } from "../../src/snapshot/types.ts";
import { d, type Gids, s, st } from "../helpers/diffs.ts";

describe("a diff and a snapshot", () => {
  const rows: [Gids, ReturnType<typeof d>, Relation, Gids | undefined][] = [
    [5, d(3, 7), "applicable", 7],
    [5, d(5, 6), "applicable", 6],
    [5, d(4, 5), "too-old", undefined],
    [5, d(6, 7), "too-new", undefined],
    [[5, 9], d(5, 7), "applicable", [7, 9]],
    [[5, 9], d(3, 9), "applicable", 9],
    [[5, 9], d(3, 20), "applicable", 20],
    [[5, 9], d([5, 9], [10, 12]), "applicable", [10, 12]],
    [[5, 9], d([0, 2], [6, 7]), "applicable", [6, 7]],
    [[0, 10], d(0, 10), "applicable", 10],
    [[0, 7], d(0, 10), "applicable", 10],
    [[5, 10], d([0, 5], 15), "applicable", 15],
    [5, d(5, 10, "MC"), "applicable", 10],
    [[5, 9], d(5, 10, "MC"), "applicable", 10],
    [5, d(4, 10, "MC"), "not-applicable", undefined],
    [12, d(4, 10, "MC"), "not-applicable", undefined],
  ];
  for (const [at, diff, expected, after] of rows) {
    test(`${JSON.stringify(at)} and ${JSON.stringify([diff.from, diff.to], (_, v) => (typeof v === "bigint" ? `${v}` : v))}${diff.isCompared ? " C" : ""}: ${expected}`, () => {
      expect(relation(s(at), diff)).toBe(expected);
      if (after === undefined) {
        expect(() => apply(s(at), diff)).toThrow("cannot be applied");
      } else {
        expect(apply(s(at), diff)).toEqual(s(after));
      }
    });
  }

  test("a sequence is applied step by step, and nothing is the identity", () => {
    expect(canApplyAll(s(0), [])).toBe(true);
    expect(applyAll(s([0, 3]), [])).toEqual(s([0, 3]));
    expect(applyAll(s([0, 3]), [d(0, 1), d(1, 2)])).toEqual(s([2, 3]));
    expect(canApplyAll(s(0), [d(0, 1), d(2, 3)])).toBe(false);
    expect(() => applyAll(s(0), [d(0, 1), d(2, 3)])).toThrow("too new");
  });

  test("gids beyond 2^53 keep their last digit", () => {
    const big = 2n ** 63n + 1n;
    const diff = diffMeta({ from: snapshot(big), to: snapshot(big + 1n) });
    expect(relation(snapshot(big - 1n), diff)).toBe("too-new");
    expect(apply(snapshot(big), diff)).toEqual({ gidB: big + 1n, gidE: big + 1n });
  });
});

describe("merging two diffs", () => {
  const rows: [ReturnType<typeof d>, ReturnType<typeof d>, [Gids, Gids] | undefined][] = [
    [d(0, 1), d(1, 2), [0, 2]],
    [d(0, 2), d(1, 3), [0, 3]],
    [d(0, 2), d(3, 5), undefined],
    [d(0, 5), d(1, 3), undefined],
    [d(1, 3), d(0, 5), undefined],
    [d(0, 1), d(1, [2, 3]), [0, [2, 3]]],
    [d(0, 5), d([1, 2], [7, 8]), [0, [7, 8]]],
    [
      d([0, 1], [5, 10]),
      d(2, 7),
      [
        [0, 1],
        [7, 10],
      ],
    ],
    [d([0, 1], [5, 10]), d(2, 12), [[0, 1], 12]],
    [d(0, [1, 2]), d(1, 2), [0, 2]],
    [d(0, 1), d(1, 2, "--"), undefined],
    [d(0, 1, "MC"), d(1, 2), undefined],
    [d(0, 1), d(1, 2, "MC"), undefined],
  ];
  for (const [at, [older, newer, expected]] of rows.entries()) {
    test(`row ${at + 1} of the table`, () => {
      expect(canMerge(older, newer)).toBe(expected !== undefined);
      if (expected === undefined) {
        expect(() => merge(older, newer)).toThrow("cannot be merged");
      } else {
        expect(merge(older, newer)).toMatchObject({ from: s(expected[0]), to: s(expected[1]) });
      }
    });
  }

  test("takes the flag of the older and the time of the newer, and forgets the size", () => {
    const merged = merge(d(0, 1, "--", 100, 7), d(1, 2, "M-", 200, 8));
    expect(merged).toEqual(d(0, 2, "--", 200, 0));
  });

  test("a list is merged from the left; one diff stays as it is, none is an error", () => {
    const one = d(0, 1, "MC", 5, 9);
    expect(mergeAll([one])).toBe(one);
    expect(canMergeAll([one])).toBe(true);
    expect(canMergeAll([])).toBe(false);
    expect(() => mergeAll([])).toThrow("no diff");
    expect(mergeAll([d(0, 1), d(1, 2), d(2, 5)])).toEqual(d(0, 5));
    expect(canMergeAll([d(0, 1), d(1, 2), d(3, 5)])).toBe(false);
    expect(() => mergeAll([d(0, 1), d(1, 2), d(3, 5)])).toThrow("cannot be merged");
  });

  test("dirty diffs of no real history can give a result that no name can hold", () => {
    const merged = merge(d([1, 4], [2, 4]), d([2, 3], 3));
    expect([merged.from, merged.to]).toEqual([s([1, 4]), s(3)]);
    expect(() => checkDiffMeta(merged)).toThrow("gidE");
  });

  test("for such diffs merging is not associative and differs from applying", () => {
    const [a, b, c] = [d([0, 4], [1, 4]), d(1, [2, 4]), d([2, 3], 3)];
    expect(merge(merge(a, b), c).to).toEqual(s(3));
    expect(merge(a, merge(b, c)).to).toEqual(s([3, 4]));
    expect(applyAll(s([1, 4]), [b, c])).toEqual(s(3));
    expect(apply(s([1, 4]), merge(b, c))).toEqual(s([3, 4]));
  });
});

describe("choosing the furthest diff", () => {
  test("the furthest end wins, then the shortest diff, then the first", () => {
    expect(maxProgress([d(0, 3), d(1, 3), d(2, 3), d(0, 2)])).toEqual(d(2, 3));
    const tied = [d(0, [3, 5]), d(0, 3), d(0, [3, 9])];
    expect(maxProgress(tied)).toBe(tied[0]!);
    expect(() => maxProgress([])).toThrow("no diff");
  });

  test("a diff contains what lies inside its gids", () => {
    expect(contains(d(0, 3), d(1, 3))).toBe(true);
    expect(contains(d(0, 3), d(0, 3))).toBe(true);
    expect(contains(d(0, 3), d(2, 4))).toBe(false);
    expect(contains(d(1, 3), d(0, 2))).toBe(false);
  });
});

describe("states", () => {
  const [a, b, c] = [d(0, 5, "M-", 1000), d([5, 10], [15, 20], "M-", 1001), d(15, 20, "M-", 1002)];

  test("begin and end take the time of the last diff", () => {
    const base = st([0, 10]);
    expect(beginState(base, [a, b, c])).toEqual(applyingState(s([0, 10]), s(20), 1002));
    expect(endState(base, [a, b, c])).toEqual(plainState(s(20), 1002));
  });

  test("an interrupted apply goes on only with diffs that reach its end", () => {
    const applying = beginState(st([0, 10]), [a, b, c]);
    for (const diff of [a, b, c, d(0, 19)]) {
      expect(canApplyToState(applying, [diff])).toBe(false);
      expect(() => endState(applying, [diff])).toThrow("cannot bring");
    }
    expect(canApplyToState(applying, [d(0, 20)])).toBe(true);
    expect(endState(applying, [d(0, 25)])).toEqual(plainState(s(25), 0));
    expect(beginState(applying, [a, b, c])).toEqual(applying);
  });

  test("no diffs change nothing, even of an applying state", () => {
    const applying = st(0, 3);
    expect(endState(applying, [])).toBe(applying);
    expect(beginState(applying, [])).toBe(applying);
    expect(canApplyToState(applying, [])).toBe(false);
    expect(canApplyToState(st(0), [])).toBe(true);
  });
});

describe("constructors", () => {
  test("refuse what breaks a constraint and name the field", () => {
    const bad: [() => unknown, string][] = [
      [() => snapshot(5n, 4n), "snapshot.gidE"],
      [() => snapshot(-1n), "snapshot.gidB"],
      [() => snapshot(gidMax + 1n), "snapshot.gidB"],
      [() => diffMeta({ from: s(1), to: s(1) }), "diff.to.gidB"],
      [() => diffMeta({ from: s([1, 9]), to: s([2, 8]) }), "diff.to.gidE"],
      [() => diffMeta({ from: s(0), to: s(1), timestampS: -1 }), "diff.timestampS"],
      [() => diffMeta({ from: s(0), to: s(1), timestampS: 1.5 }), "diff.timestampS"],
      [() => diffMeta({ from: s(0), to: s(1), dataSizeBytes: 2 ** 53 }), "diff.dataSizeBytes"],
      [() => applyingState(s(3), s(3), 0), "state.to.gidB"],
      [() => plainState(s(3), Number.NaN), "state.timestampS"],
    ];
    for (const [make, field] of bad) {
      expect(make).toThrow(expect.objectContaining({ code: "bad-format", where: { field } }));
    }
  });

  test("accept the hash backup of a clean and of a dirty archive", () => {
    const clean = d(10, [11, 15], "--");
    expect(apply(s(10), clean)).toEqual(s([11, 15]));
    expect(applyAll(s(10), [clean, d(11, 13)])).toEqual(s([13, 15]));
    expect(applyAll(s(10), [clean, d(11, 13), d(11, 16)])).toEqual(s(16));
    expect(apply(s([10, 12]), d([10, 12], [13, 15]))).toEqual(s([13, 15]));
  });
});
