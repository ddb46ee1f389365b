import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { coveredBy, longestRetryMs, metaOf, planSend, reactionTo, refusalHint } from "../../src/proxy/plan.ts";
import { type DiffRow, type NewDiff, ProxyStore } from "../../src/proxy/store.ts";
import { createSimWorld } from "../../src/sim/sim.ts";
import { canMerge } from "../../src/snapshot/algebra.ts";
import { DiffSet } from "../../src/snapshot/diffset.ts";
import { mergeableList } from "../../src/snapshot/select.ts";
import { type Answer, refusalWords } from "../../src/wire/words.ts";

const row = (id: number, from: number, to: number, options: Partial<DiffRow> = {}): DiffRow => ({
  id,
  fileName: `${id}.wdiff`,
  uuid: "a",
  fromGid: BigInt(from),
  toGid: BigInt(to),
  isMergeable: true,
  timestampS: id,
  sizeBytes: 10,
  receivedMs: id,
  ...options,
});
const unlimited = { bytesMax: 1e12, countMax: 1e6 };
const idsOf = (rows: readonly DiffRow[] | undefined): number[] => (rows ?? []).map(({ id }) => id);

describe("the next transfer of a proxy", () => {
  test("is nothing of nothing, and one diff of one", () => {
    expect(planSend([], unlimited)).toBeUndefined();
    const plan = planSend([row(1, 0, 1)], { bytesMax: 1, countMax: 1 })!;
    expect(idsOf(plan.diffs)).toEqual([1]);
    expect(plan.merged).toEqual(metaOf(row(1, 0, 1)));
  });

  test("is a run up to the limits; the first goes whatever its size is", () => {
    const rows = [row(1, 0, 1, { sizeBytes: 99 }), row(2, 1, 2), row(3, 2, 3), row(4, 3, 4)];
    expect(idsOf(planSend(rows, { bytesMax: 50, countMax: 9 })?.diffs)).toEqual([1]);
    expect(idsOf(planSend(rows, { bytesMax: 110, countMax: 9 })?.diffs)).toEqual([1, 2]);
    const three = planSend(rows, { bytesMax: 999, countMax: 3 })!;
    expect(idsOf(three.diffs)).toEqual([1, 2, 3]);
    // Archives are told how much comes at most.
    expect(three.merged.dataSizeBytes).toBe(99 + 10 + 10);
  });

  test("stops before a diff that may not be merged, and at a gap", () => {
    expect(idsOf(planSend([row(1, 0, 1), row(2, 1, 2, { isMergeable: false })], unlimited)?.diffs)).toEqual([1]);
    expect(idsOf(planSend([row(1, 0, 1, { isMergeable: false }), row(2, 1, 2)], unlimited)?.diffs)).toEqual([1, 2]);
    expect(idsOf(planSend([row(1, 0, 1), row(2, 2, 3)], unlimited)?.diffs)).toEqual([1]);
  });

  test("is of the log that came first, alone", () => {
    const rows = [row(1, 0, 5, { uuid: "old" }), row(2, 0, 1), row(3, 5, 6, { uuid: "old" })];
    expect(planSend(rows, unlimited)).toMatchObject({ uuid: "old", merged: { to: { gidB: 6n } } });
    expect(idsOf(coveredBy(planSend(rows, unlimited)!.merged, "old", rows))).toEqual([1, 3]);
  });

  test("is what the algebra's mergeable list is, whatever came, overlapped and came twice", () => {
    const diff = fc.record({
      from: fc.integer({ min: 0, max: 20 }),
      size: fc.integer({ min: 1, max: 5 }),
      isMergeable: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(diff, { minLength: 1, maxLength: 25, size: "max", selector: (d) => `${d.from} ${d.size}` }),
        (diffs) => {
          const rows = diffs.map(({ from, size, isMergeable }, i) => row(i + 1, from, from + size, { isMergeable }));
          const plan = planSend(rows, unlimited)!;
          const set = DiffSet.from(rows.map(metaOf));
          const least = rows.reduce((min, { fromGid }) => (fromGid < min ? fromGid : min), rows[0]!.fromGid);
          const list = mergeableList(set, least);
          expect(plan.diffs.map(metaOf).map((d) => [d.from.gidB, d.to.gidB])).toEqual(
            list.map((d) => [d.from.gidB, d.to.gidB]),
          );
          for (let i = 1; i < plan.diffs.length; i++)
            expect(canMerge(metaOf(plan.diffs[i - 1]!), metaOf(plan.diffs[i]!))).toBe(true);
          const covered = coveredBy(plan.merged, plan.uuid, rows);
          for (const { id } of plan.diffs) expect(idsOf(covered)).toContain(id);
          for (const { fromGid, toGid } of covered)
            expect(plan.merged.from.gidB <= fromGid && toGid <= plan.merged.to.gidB).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe("an archive's answer", () => {
  test("lets a diff go only when it was taken, or will never be needed", () => {
    expect(reactionTo({ kind: "accept" })).toBe("delivered");
    const needless = refusalWords.filter((word) => reactionTo({ kind: "word", word }) === "needless");
    expect(needless).toEqual(["different-uuid", "too-old-diff"]);
    for (const word of refusalWords) expect(refusalHint({ kind: "word", word }, "vol0")).toBeString();
    expect(reactionTo({ kind: "text", text: "different-uuid" })).toBe("retry");
    expect(reactionTo({ kind: "text", text: "too-old-diff" })).toBe("retry");
  });

  test("are short while the archive is busy with something that ends by itself", () => {
    const word = (text: string) => longestRetryMs({ kind: "word", word: text } as Answer, 300_000);
    expect(["syncing", "wdiff-recv", "stopped", "too-new-diff"].map(word)).toEqual([10_000, 10_000, 300_000, 300_000]);
    expect(longestRetryMs(undefined, 300_000)).toBe(300_000);
    expect(longestRetryMs({ kind: "word", word: "syncing" } as Answer, 1_000)).toBe(1_000);
  });
});

describe("what a proxy volume remembers", () => {
  test("is the same after a restart, and no diff is lost that an archive waits for", () => {
    const action = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant("add" as const), value: fc.integer({ min: 0, max: 9 }) }) },
      {
        weight: 3,
        arbitrary: fc.record({ kind: fc.constant("deliver" as const), value: fc.integer({ min: 0, max: 5 }) }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ kind: fc.constant("archive" as const), value: fc.integer({ min: 0, max: 2 }) }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ kind: fc.constant("remove" as const), value: fc.integer({ min: 0, max: 2 }) }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ kind: fc.constant("state" as const), value: fc.integer({ min: 0, max: 1 }) }),
      },
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 30, size: "max" }), (actions) => {
        const world = createSimWorld(1);
        const host = world.host("a");
        let store = ProxyStore.open(host.platform.databases, "/", "vol0", true);
        /** Per archive the ranges that it waits for. */
        const model = new Map<string, Set<string>>();
        const archive = (name: string) => ({ name, address: "a:1", compression: "snappy", delayS: 0 });
        for (const { kind, value } of actions) {
          const name = `a${value % 3}`;
          if (kind === "archive") {
            store.putArchive(archive(name));
            if (!model.has(name)) model.set(name, new Set());
          }
          if (kind === "remove" && model.delete(name)) store.removeArchive(name);
          if (kind === "add") {
            const { id: _, ...diff } = row(0, value, value + 1);
            store.addDiff(diff satisfies NewDiff, 100 + value);
            for (const waiting of model.values()) waiting.add(`${value}`);
          }
          if (kind === "deliver") {
            const some = store.pending(name).slice(0, value);
            const gone = store.removeDeliveries(name, idsOf(some));
            for (const { fromGid } of some) model.get(name)?.delete(`${fromGid}`);
            for (const { fromGid } of gone)
              for (const waiting of model.values()) expect(waiting.has(`${fromGid}`)).toBe(false);
          }
          if (kind === "state") store.setState(value === 0 ? "Stopped" : "Started");
          const { state, sizeLb } = store;
          host.crash();
          store = ProxyStore.open(host.restart().databases, "/", "vol0", false);
          expect(store).toMatchObject({ state, sizeLb });
          expect(store.archives.map((known) => known.name).toSorted()).toEqual([...model.keys()].toSorted());
          for (const [known, waiting] of model) {
            expect(
              store
                .pending(known)
                .map(({ fromGid }) => `${fromGid}`)
                .toSorted(),
            ).toEqual([...waiting].toSorted());
          }
          const held = new Set([...model.values()].flatMap((waiting) => [...waiting]));
          expect(store.diffs).toHaveLength(held.size);
          for (const diff of store.diffs) expect(store.find(diff)).toEqual(diff);
          expect(store.isEmpty).toBe(held.size === 0);
        }
        world.close();
      }),
      { numRuns: 40 },
    );
  });
});
