import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DiffSet } from "../../src/snapshot/diffset.ts";
import { applicableList, mergeableList } from "../../src/snapshot/select.ts";
import {
  finishRange,
  type LogPoint,
  nextPoint,
  planRange,
  prepareTransfer,
  type RangeDiff,
  rangeDiffMeta,
  undelivered,
} from "../../src/snapshot/split.ts";
import { checkDiffMeta, gidMax, snapshot } from "../../src/snapshot/types.ts";

const point = (lsid: number, gid: number | bigint, isMergeable: boolean, timestampS = 0): LogPoint => ({
  lsid,
  gid: BigInt(gid),
  isMergeable,
  timestampS,
});

describe("a snapshot of the log", () => {
  const options = { isMergeable: false, timestampS: 7, maxPb: 100 };

  test("gets a gid that leaves room for cutting the range before it", () => {
    const done = point(0, 0, false);
    const gids = [0, 99, 100, 250].map((lsid) => nextPoint(done, [], lsid, options).gid);
    expect(gids).toEqual([1n, 1n, 2n, 3n]);
    expect(nextPoint(done, [point(250, 3, false)], 250, options)).toEqual(point(250, 4, false, 7));
  });

  test("is refused when the log went back, when the gids are used up, and without a limit", () => {
    expect(() => nextPoint(point(10, 0, true), [], 9, options)).toThrow("lsid 9");
    expect(() => nextPoint(point(0, gidMax - 1n, true), [], 0, options)).toThrow("used up");
    expect(nextPoint(point(0, gidMax - 2n, true), [], 0, options).gid).toBe(gidMax - 1n);
    expect(() => nextPoint(point(0, 0, true), [], 9, { ...options, maxPb: 0 })).toThrow("maxPb");
  });
});

describe("the worked example: 100 PB a transfer, packs end at 97, 190, 250 and 300", () => {
  test("cuts the range before an explicit snapshot into three diffs that can be merged, and no more", () => {
    let done = point(0, 0, false, 1);
    let queue: readonly LogPoint[] = [nextPoint(done, [], 250, { isMergeable: false, timestampS: 5, maxPb: 100 })];
    expect(queue[0]!.gid).toBe(3n);
    const diffs: RangeDiff[] = [];
    const rounds: [number, number, LogPoint][] = [
      [100, 97, point(97, 1, true, 1)],
      [197, 190, point(190, 2, true, 1)],
      [250, 250, point(250, 3, false, 5)],
      [300, 300, point(300, 4, true, 9)],
    ];
    for (const [limitLsid, endLsid, after] of rounds) {
      const plan = planRange(done, queue, 300, 100)!;
      expect(plan.limitLsid).toBe(limitLsid);
      const finished = finishRange(done, plan, endLsid);
      diffs.push(finished.diff);
      done = finished.done;
      queue = undelivered(done, queue);
      expect(done).toEqual(after);
      if (endLsid === 190) {
        queue = [...queue, nextPoint(done, queue, 300, { isMergeable: true, timestampS: 9, maxPb: 100 })];
      }
    }
    expect(diffs.map((diff) => [diff.fromGid, diff.toGid, diff.isMergeable, diff.timestampS])).toEqual([
      [0n, 1n, false, 5],
      [1n, 2n, true, 5],
      [2n, 3n, true, 5],
      [3n, 4n, false, 9],
    ]);
    const set = DiffSet.from(diffs.map(rangeDiffMeta));
    expect(mergeableList(set, 0n).at(-1)!.to.gidB).toBe(3n);
  });
});

describe("choosing a range", () => {
  test("passes over implicit snapshots within the limit, and stops at an explicit one", () => {
    const done = point(0, 0, true);
    const queue = [point(10, 1, true), point(20, 2, true), point(30, 3, false), point(40, 4, true)];
    expect(planRange(done, queue, 40, 100)!.end.gid).toBe(3n);
    expect(planRange(done, queue, 40, 25)!.end.gid).toBe(2n);
    expect(planRange(done, queue, 15, 100)!.end.gid).toBe(1n);
    expect(planRange(done, queue.slice(3), 40, 100)).toMatchObject({ fromLsid: 0, limitLsid: 40, isWhole: true });
  });

  test("waits until the log is durable as far as the range goes", () => {
    const queue = [point(50, 1, true)];
    expect(planRange(point(0, 0, true), queue, 49, 100)).toBeUndefined();
    expect(planRange(point(0, 0, true), queue, 50, 100)).toBeDefined();
    expect(planRange(point(0, 0, true), [], 50, 100)).toBeUndefined();
  });

  test("sends a range whole when no gid is left, also with further snapshots waiting", () => {
    const queue = [point(250, 1, true), point(400, 3, true)];
    const plan = planRange(point(0, 0, true), queue, 400, 100)!;
    expect(plan).toMatchObject({ limitLsid: 250, isWhole: true });
    expect(() => finishRange(point(0, 0, true), plan, 90)).toThrow("cannot end at 90");
  });

  test("of an empty log gives an empty diff", () => {
    const done = point(30, 5, true);
    const plan = planRange(done, [point(30, 6, false, 8)], 30, 100)!;
    expect(finishRange(done, plan, 30)).toEqual({
      diff: { fromGid: 5n, toGid: 6n, isMergeable: true, timestampS: 8 },
      done: point(30, 6, false, 8),
    });
  });

  test("refuses a queue that does not rise, and transfers that end where they cannot", () => {
    expect(() => planRange(point(10, 3, true), [point(9, 4, true)], 99, 100)).toThrow("not behind");
    expect(() => planRange(point(10, 3, true), [point(20, 4, true), point(30, 4, true)], 99, 100)).toThrow(
      "not behind",
    );
    const done = point(0, 0, true);
    const plan = planRange(done, [point(250, 3, true)], 250, 100)!;
    for (const endLsid of [0, 101, 249]) expect(() => finishRange(done, plan, endLsid)).toThrow("cannot end");
    expect(() => finishRange(point(5, 0, true), plan, 97)).toThrow("cannot end");
    expect(finishRange(done, plan, 97).diff.toGid).toBe(1n);
  });

  test("preparation forgets what is delivered and takes a snapshot when one is due", () => {
    const input = { done: point(20, 2, true), latestLsid: 60, permanentLsid: 60, maxPb: 100, snapshotIntervalS: 10 };
    const queue = [point(10, 1, true, 100), point(20, 2, true, 100), point(50, 3, true, 100)];
    const early = prepareTransfer({ ...input, queue, nowS: 109 });
    expect(early).toMatchObject({ queue: [point(50, 3, true, 100)], taken: undefined, range: { limitLsid: 50 } });
    const due = prepareTransfer({ ...input, queue, nowS: 110 });
    expect(due.taken).toEqual(point(60, 4, true, 110));
    expect(due.range!.end).toBe(due.taken!);
    // The clock went back.
    expect(prepareTransfer({ ...input, queue, nowS: 99 }).taken).toEqual(point(60, 4, true, 99));
    expect(prepareTransfer({ ...input, queue: [], nowS: 1 }).taken).toEqual(point(60, 3, true, 1));
    expect(prepareTransfer({ ...input, queue: [], nowS: 1, permanentLsid: 59 }).range).toBeUndefined();
    expect(prepareTransfer({ ...input, latestLsid: 50, queue, nowS: 999 }).taken).toBeUndefined();
  });
});

describe("whatever is written, flushed, snapshot and sent", () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant("write" as const), packPb: fc.integer({ min: 1, max: 60 }) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("snapshot" as const), packPb: fc.constant(0) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("flush" as const), packPb: fc.constant(0) }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("tick" as const), packPb: fc.integer({ min: 1, max: 20 }) }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("send" as const), packPb: fc.constant(0) }) },
    // An operator restarts the daemon with another limit: gids handed out before fit no longer.
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("limit" as const), packPb: fc.integer({ min: 60, max: 200 }) }),
    },
  );

  test("ranges are contiguous, gids strictly rise, and explicit snapshots survive every merge", () => {
    let cuts = 0;
    let passed = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 200 }), (steps) => {
        let done = point(0, 0, false);
        let queue: readonly LogPoint[] = [];
        let [latestLsid, permanentLsid, nowS, maxPb] = [0, 0, 0, 100];
        const packEnds: number[] = [];
        const explicit: bigint[] = [];
        const taken: LogPoint[] = [];
        const diffs: RangeDiff[] = [];
        /** sent[n]: how often the n-th pack was sent. */
        const sent: number[] = [];

        const send = (): boolean => {
          const prepared = prepareTransfer({
            done,
            queue,
            latestLsid,
            permanentLsid,
            maxPb,
            nowS,
            snapshotIntervalS: 10,
          });
          queue = prepared.queue;
          if (prepared.taken !== undefined) taken.push(prepared.taken);
          if (prepared.range === undefined) return false;
          let endLsid = done.lsid;
          packEnds.forEach((end, at) => {
            if (end <= done.lsid || end > prepared.range!.limitLsid) return;
            sent[at] = (sent[at] ?? 0) + 1;
            endLsid = end;
          });
          const before = done;
          const finished = finishRange(done, prepared.range, endLsid);
          diffs.push(finished.diff);
          done = finished.done;
          queue = undelivered(done, queue);
          expect(finished.diff.fromGid).toBe(before.gid);
          expect(finished.diff.toGid).toBe(done.gid);
          expect(finished.diff.isMergeable).toBe(before.isMergeable);
          expect(done.gid > before.gid).toBe(true);
          expect(done.lsid).toBe(endLsid);
          if (endLsid !== prepared.range.end.lsid) cuts += 1;
          for (const waiting of queue) expect(waiting.gid > done.gid && waiting.lsid >= done.lsid).toBe(true);
          return true;
        };

        for (const { kind, packPb } of steps) {
          if (kind === "write") {
            latestLsid += packPb;
            packEnds.push(latestLsid);
          } else if (kind === "flush") {
            permanentLsid = latestLsid;
          } else if (kind === "tick") {
            nowS += packPb;
          } else if (kind === "limit") {
            maxPb = packPb;
          } else if (kind === "snapshot") {
            queue = undelivered(done, queue);
            const asked = nextPoint(done, queue, latestLsid, { isMergeable: false, timestampS: nowS, maxPb });
            queue = [...queue, asked];
            taken.push(asked);
            explicit.push(asked.gid);
          } else {
            send();
          }
        }
        permanentLsid = latestLsid;
        for (let round = 0; done.lsid < latestLsid || queue.length > 0; round++) {
          expect(round).toBeLessThan(1000);
          expect(send()).toBe(true);
        }

        expect(packEnds.map((_, at) => sent[at])).toEqual(packEnds.map(() => 1));
        for (let at = 1; at < taken.length; at++) expect(taken[at]!.gid > taken[at - 1]!.gid).toBe(true);
        const metas = diffs.map(rangeDiffMeta);
        for (const meta of metas) checkDiffMeta(meta);
        for (let at = 1; at < metas.length; at++) expect(metas[at]!.from).toEqual(metas[at - 1]!.to);
        const set = DiffSet.from(metas);
        expect(applicableList(set, snapshot(0n))).toHaveLength(diffs.length);
        for (const first of metas) {
          const merged = mergeableList(set, first.from.gidB);
          const end = merged.at(-1)!.to.gidB;
          const swallowed = explicit.filter((gid) => first.from.gidB < gid && gid < end);
          expect(swallowed).toEqual([]);
          passed += merged.length - 1;
        }
        // Every explicit snapshot is the end of a diff.
        const ends = new Set(diffs.map((diff) => diff.toGid));
        for (const gid of explicit) expect(ends.has(gid)).toBe(true);
      }),
      { numRuns: 300 },
    );
    expect(cuts).toBeGreaterThan(20);
    expect(passed).toBeGreaterThan(20);
  });
});
