import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { apply, canApply, canMerge, contains, merge, mergeAll } from "../../src/snapshot/algebra.ts";
import { DiffSet } from "../../src/snapshot/diffset.ts";
import { finishingList } from "../../src/snapshot/restore.ts";
import { beginState, canApplyToState } from "../../src/snapshot/state.ts";
import {
  checkDiffMeta,
  type DiffMeta,
  diffMeta,
  isCleanDiff,
  type Snapshot,
  snapshot,
} from "../../src/snapshot/types.ts";
import { arbitraryDiff, arbitraryDiffs, name } from "../helpers/diffs.ts";

interface History {
  readonly snapshots: readonly Snapshot[];
  readonly diffs: readonly DiffMeta[];
}

/** A history as storages make it: log steps and compare steps, as the text defines them. */
const arbitraryHistory: fc.Arbitrary<History> = fc
  .tuple(
    fc.bigInt({ min: 0n, max: 2n ** 62n }),
    fc.integer({ min: 0, max: 5 }),
    fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 4 })), {
      minLength: 1,
      maxLength: 8,
    }),
  )
  .map(([first, dirt, steps]) => {
    let now = snapshot(first, first + BigInt(dirt));
    const snapshots = [now];
    const diffs: DiffMeta[] = [];
    for (const [isLog, stride, spread] of steps) {
      if (isLog) {
        const gid = now.gidB + BigInt(stride);
        diffs.push(diffMeta({ from: snapshot(now.gidB), to: snapshot(gid), isMergeable: true }));
        now = snapshot(gid, gid > now.gidE ? gid : now.gidE);
      } else {
        const gid = now.gidE + BigInt(stride);
        const to = snapshot(gid, gid + BigInt(spread));
        diffs.push(diffMeta({ from: now, to, isMergeable: true }));
        now = to;
      }
      snapshots.push(now);
    }
    return { snapshots, diffs };
  });

/** Calls with every run of steps [i, j) and its merge. */
function forRuns(history: History, visit: (i: number, j: number, merged: DiffMeta) => void): void {
  for (let i = 0; i < history.diffs.length; i++) {
    for (let j = i + 1; j <= history.diffs.length; j++) visit(i, j, mergeAll(history.diffs.slice(i, j)));
  }
}

function check(law: (history: History) => void): void {
  fc.assert(fc.property(arbitraryHistory, law), { numRuns: 150 });
}

describe("in every history that storages can make", () => {
  test("L1: a merged diff applies to the snapshots from its start to before its end, and leads to its end", () => {
    check((history) => {
      forRuns(history, (i, j, merged) => {
        history.snapshots.forEach((at, k) => {
          expect(canApply(at, merged)).toBe(i <= k && k < j);
          if (i <= k && k < j) expect(apply(at, merged)).toEqual(history.snapshots[j]!);
        });
      });
    });
  });

  test("L2, L3: runs merge exactly when they touch and go on, and give the run over both", () => {
    check((history) => {
      forRuns(history, (i, j, first) => {
        forRuns(history, (k, l, second) => {
          const touches = i <= k && k <= j && j < l;
          expect(canMerge(first, second)).toBe(touches);
          if (touches) expect(merge(first, second)).toEqual(mergeAll(history.diffs.slice(i, l)));
        });
      });
    });
  });

  test("L3: merging is associative", () => {
    check(({ diffs }) => {
      for (let at = 0; at + 2 < diffs.length; at++) {
        const [a, b, c] = [diffs[at]!, diffs[at + 1]!, diffs[at + 2]!];
        expect(merge(merge(a, b), c)).toEqual(merge(a, merge(b, c)));
      }
    });
  });

  test("L4: applying two runs one after the other is applying their merge", () => {
    check((history) => {
      forRuns(history, (_i, _j, a) => {
        forRuns(history, (_k, _l, b) => {
          if (!canMerge(a, b)) return;
          for (const at of history.snapshots) {
            if (canApply(at, a)) expect(apply(apply(at, a), b)).toEqual(apply(at, merge(a, b)));
          }
        });
      });
    });
  });

  test("L6: the image does not change when a log diff is applied twice", () => {
    // A block's content is the gid of its last write; a diff over (from, to] carries the writes of these gids.
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 2, maxLength: 10 }),
        fc.nat(),
        fc.nat(),
        (writes, a, b) => {
          const image = (gid: number): number[] => overlay([0, 0, 0, 0], 0, gid);
          const overlay = (start: readonly number[], from: number, to: number): number[] => {
            const blocks = [...start];
            for (let gid = from; gid < to; gid++) blocks[writes[gid]!] = gid + 1;
            return blocks;
          };
          const from = a % writes.length;
          const to = from + 1 + (b % (writes.length - from));
          for (let at = from; at <= to; at++) expect(overlay(image(at), from, to)).toEqual(image(to));
        },
      ),
    );
  });

  test("L7: the end of what a snapshot may contain never goes back", () => {
    check(({ snapshots }) => {
      for (let at = 1; at < snapshots.length; at++) {
        expect(snapshots[at]!.gidE >= snapshots[at - 1]!.gidE).toBe(true);
      }
    });
  });

  test("L8: an interrupted apply can be finished after any merging beside it", () => {
    fc.assert(
      fc.property(
        arbitraryHistory,
        fc.nat(),
        fc.nat(),
        fc.array(fc.tuple(fc.nat(), fc.nat())),
        (history, a, b, merges) => {
          const count = history.diffs.length;
          const i = a % count;
          const j = i + 1 + (b % (count - i));
          const state = beginState({ from: history.snapshots[i]!, timestampS: 0 }, history.diffs.slice(i, j));
          // Each merge replaces neighbours by one diff, as an archive does.
          let list = history.diffs.slice(i);
          for (const [x, y] of merges) {
            const begin = x % list.length;
            const end = begin + 1 + (y % (list.length - begin));
            list = [...list.slice(0, begin), mergeAll(list.slice(begin, end)), ...list.slice(end)];
          }
          const finishing = finishingList(DiffSet.from(list), state);
          expect(finishing).toBeDefined();
          expect(canApplyToState(state, finishing!)).toBe(true);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("L9: merged diffs keep the constraints of diffs", () => {
    check((history) => forRuns(history, (_i, _j, merged) => expect(checkDiffMeta(merged)).toBe(merged)));
  });
});

describe("of arbitrary diffs", () => {
  test("L5: a merged diff contains both of its parts", () => {
    fc.assert(
      fc.property(arbitraryDiff(), arbitraryDiff(), (a, b) => {
        fc.pre(canMerge(a, b));
        expect(contains(merge(a, b), a) && contains(merge(a, b), b)).toBe(true);
      }),
    );
  });

  test("clean ones are associative and agree with applying, from any snapshot", () => {
    let seen = 0;
    fc.assert(
      fc.property(
        arbitraryDiffs(9, 12),
        fc.integer({ min: 0, max: 9 }),
        fc.integer({ min: 0, max: 5 }),
        (diffs, b, e) => {
          const clean = diffs.filter(isCleanDiff);
          const at = snapshot(BigInt(b), BigInt(b + e));
          for (const x of clean) {
            for (const y of clean) {
              if (!canMerge(x, y)) continue;
              if (canApply(at, x)) expect(apply(apply(at, x), y)).toEqual(apply(at, merge(x, y)));
              for (const z of clean) {
                if (!canMerge(y, z) || !canMerge(merge(x, y), z) || !canMerge(x, merge(y, z))) continue;
                seen += 1;
                expect(name(merge(merge(x, y), z))).toBe(name(merge(x, merge(y, z))));
              }
            }
          }
        },
      ),
      { numRuns: 300 },
    );
    expect(seen).toBeGreaterThan(0);
  });
});
