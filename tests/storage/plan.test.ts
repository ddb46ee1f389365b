import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Lsids } from "../../src/device/device.ts";
import { apply, relation } from "../../src/snapshot/algebra.ts";
import { finishRange, type LogPoint, nextPoint, rangeDiffMeta, undelivered } from "../../src/snapshot/split.ts";
import { type Snapshot, snapshot } from "../../src/snapshot/types.ts";
import { planErase, planFollow, retryDelayMsCap } from "../../src/storage/plan.ts";

const lsids = (permanent: number, latest = permanent, oldest = 0, prevWritten = oldest): Lsids => ({
  oldest,
  prevWritten,
  written: prevWritten,
  permanent,
  flush: latest,
  completed: latest,
  latest,
});
const point = (lsid: number, gid: bigint, isMergeable = true, timestampS = 0): LogPoint => ({
  lsid,
  gid,
  isMergeable,
  timestampS,
});
const input = {
  done: point(0, 0n),
  queue: [] as LogPoint[],
  lsids: lsids(0),
  maxPb: 1000,
  cutPb: 1000,
  nowS: 100,
  snapshotIntervalS: 10,
  sinceTransferMs: 5000,
};

describe("what a storage does next", () => {
  test("is to wait for the device while there is nothing to send", () => {
    expect(planFollow(input)).toEqual({ kind: "wait", delayMs: undefined });
  });

  test("is to wait a moment while the log is not durable yet, and never to take a snapshot of that", () => {
    expect(planFollow({ ...input, lsids: lsids(0, 5) })).toEqual({ kind: "wait", delayMs: 100 });
    const queue = [point(50, 1n, true, 100)];
    expect(planFollow({ ...input, queue, lsids: lsids(40, 80) })).toEqual({ kind: "wait", delayMs: 100 });
  });

  test("is a snapshot when there is none, then to send up to it", () => {
    expect(planFollow({ ...input, lsids: lsids(20) })).toEqual({ kind: "snapshot" });
    const queue = [point(20, 1n, true, 100)];
    expect(planFollow({ ...input, queue, lsids: lsids(20) })).toMatchObject({ kind: "send", range: { limitLsid: 20 } });
    expect(planFollow({ ...input, queue, lsids: lsids(30), nowS: 110 })).toEqual({ kind: "snapshot" });
    expect(planFollow({ ...input, queue, lsids: lsids(20), nowS: 110 })).toMatchObject({ kind: "send" });
  });

  test("is paced to one transfer a second under a trickle, in whole milliseconds", () => {
    const trickle = { ...input, lsids: lsids(20), sinceTransferMs: 400.25 };
    expect(planFollow(trickle)).toEqual({ kind: "wait", delayMs: 600 });
    expect(planFollow({ ...trickle, sinceTransferMs: 999.9995 })).toEqual({ kind: "wait", delayMs: 1 });
    expect(planFollow({ ...trickle, sinceTransferMs: 1000 })).toEqual({ kind: "snapshot" });
  });

  test("is not paced for a snapshot that somebody asked for, nor when much has come together", () => {
    const soon = { ...input, sinceTransferMs: 0 };
    const asked = [point(20, 1n, false, 100)];
    expect(planFollow({ ...soon, queue: asked, lsids: lsids(20) })).toMatchObject({ kind: "send" });
    expect(planFollow({ ...soon, lsids: lsids(100) })).toEqual({ kind: "snapshot" });
    expect(planFollow({ ...soon, lsids: lsids(99) }).kind).toBe("wait");
    // Also one without any log: an empty diff.
    expect(planFollow({ ...soon, queue: [point(0, 1n, false, 100)] })).toMatchObject({ kind: "send" });
  });

  test("erases what is delivered and safely on the data device, and nothing else", () => {
    expect(planErase(50, lsids(90, 90, 10, 30))).toBe(30);
    expect(planErase(20, lsids(90, 90, 10, 30))).toBe(20);
    expect(planErase(10, lsids(90, 90, 10, 30))).toBeUndefined();
    expect(planErase(50, lsids(90, 90, 30, 30))).toBeUndefined();
  });

  test("tries again soon what a proxy refused, or a device could not do", () => {
    expect(retryDelayMsCap("state", true, 300_000)).toBe(10_000);
    expect(retryDelayMsCap("unreachable", false, 300_000)).toBe(10_000);
    expect(retryDelayMsCap("unreachable", true, 300_000)).toBe(300_000);
    expect(retryDelayMsCap("damaged", true, 300_000)).toBe(300_000);
    expect(retryDelayMsCap("state", true, 2_000)).toBe(2_000);
  });
});

describe("whatever is written, lost on the way, and limited anew", () => {
  const action = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("write"), value: fc.integer({ min: 1, max: 40 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("snapshot"), value: fc.constant(0) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("send"), value: fc.constant(0) }) },
    // The Ack of the transfer is lost: the proxy has it, the storage does not know.
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("send without Ack"), value: fc.constant(0) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("limit"), value: fc.integer({ min: 41, max: 300 }) }) },
  );

  test("every gid stands for one position of the log, and whoever takes the diffs in any order has no gap", () => {
    fc.assert(
      fc.property(
        fc.array(action, { maxLength: 60, size: "max" }),
        fc.infiniteStream(fc.boolean()),
        (actions, chance) => {
          const ends = [0];
          let done = point(0, 0n, false);
          let queue: readonly LogPoint[] = [];
          let maxPb = 100;
          let cutPb: number | undefined;
          let nowS = 0;
          /** Diffs at the proxies: what they cover of the log. */
          const diffs: { meta: ReturnType<typeof rangeDiffMeta>; from: number; to: number }[] = [];
          const asked: bigint[] = [];
          const deliver = (isAcked: boolean): void => {
            const latest = ends.at(-1)!;
            const step = (): ReturnType<typeof planFollow> =>
              planFollow({
                done,
                queue,
                lsids: lsids(latest),
                maxPb,
                cutPb: cutPb ?? maxPb,
                nowS,
                snapshotIntervalS: 10,
                sinceTransferMs: 9999,
              });
            let next = step();
            if (next.kind === "snapshot") {
              queue = [...queue, nextPoint(done, queue, latest, { isMergeable: true, timestampS: nowS, maxPb })];
              next = step();
            }
            if (next.kind !== "send") return;
            const { range } = next;
            if (!range.isWhole) cutPb ??= maxPb;
            const endLsid = ends.filter((end) => end <= range.limitLsid).at(-1)!;
            const finished = finishRange(done, range, endLsid);
            diffs.push({ meta: rangeDiffMeta(finished.diff), from: range.fromLsid, to: endLsid });
            if (!isAcked) return;
            done = finished.done;
            cutPb = undefined;
            queue = undelivered(done, queue);
          };
          for (const { kind, value } of actions) {
            nowS += 3;
            if (kind === "write") ends.push(ends.at(-1)! + value);
            if (kind === "limit") maxPb = value;
            if (kind === "snapshot") {
              const options = { isMergeable: false, timestampS: nowS, maxPb };
              queue = [...queue, nextPoint(done, queue, ends.at(-1)!, options)];
              asked.push(queue.at(-1)!.gid);
            }
            if (kind === "send") deliver(true);
            if (kind === "send without Ack") deliver(false);
          }
          for (let i = 0; i < 100; i++) deliver(true);
          expect(done.lsid).toBe(ends.at(-1)!);

          // One gid, one position.
          const positions = new Map<bigint, number>();
          for (const { meta, from, to } of diffs) {
            for (const [gid, lsid] of [
              [meta.from.gidB, from],
              [meta.to.gidB, to],
            ] as const) {
              expect(positions.get(gid) ?? lsid).toBe(lsid);
              positions.set(gid, lsid);
            }
          }
          // An archive that gets them in another order, retrying what is too new, ends up with all of the log.
          let at: Snapshot = snapshot(0n);
          let reached = 0;
          const stops = new Set([at.gidB]);
          const waiting = [...diffs];
          while (waiting.length > 0) {
            const fitting = waiting.findIndex(
              ({ meta }) => relation(at, meta) !== "too-new" && chance.next().value === true,
            );
            const i = fitting >= 0 ? fitting : waiting.findIndex(({ meta }) => relation(at, meta) !== "too-new");
            expect(i).toBeGreaterThanOrEqual(0);
            const [{ meta, from, to }] = waiting.splice(i, 1) as [(typeof waiting)[number]];
            if (relation(at, meta) === "too-old") continue;
            expect(from).toBeLessThanOrEqual(reached);
            at = apply(at, meta);
            reached = to;
            stops.add(at.gidB);
          }
          expect(reached).toBe(ends.at(-1)!);
          for (const gid of asked) expect(stops.has(gid) || diffs.some(({ meta }) => meta.to.gidB === gid)).toBe(true);
          // A snapshot that was asked for is never inside of a diff.
          for (const gid of asked) {
            for (const { meta } of diffs) expect(meta.from.gidB < gid && gid < meta.to.gidB).toBe(false);
          }
        },
      ),
      { numRuns: 1500 },
    );
  });
});
