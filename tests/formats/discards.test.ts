import { expect, test } from "bun:test";
import { IndexedDiffWriter } from "../../src/diff/convert.ts";
import { planMerge } from "../../src/diff/merge.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import type { LogIo } from "../../src/diff/types.ts";
import { createMemoryIo } from "../helpers/memory-disk.ts";

const io = createMemoryIo();

/** An indexed diff of discards, and the plan of its merge. */
async function planOf(discards: readonly (readonly [number, number])[], maxIoLb: number) {
  const file = await io.disk.open("/diff", { mode: "create" });
  const writer = await IndexedDiffWriter.create(io, file, { uuid: new Uint8Array(16), maxIoLb });
  await writer.add(discards.map(([offsetLb, sizeLb]): LogIo => ({ kind: "discard", offsetLb, sizeLb })));
  const stats = await writer.finish();
  const set = await openDiffSet(io, ["/diff"]);
  const plan = planMerge(set.records, { maxIoLb });
  await set.close();
  const fileBytes = io.disk.get("/diff").length;
  await io.disk.remove("/diff");
  return { stats, plan, fileBytes };
}

test("the discard of a 16 TiB volume stays a bounded number of records, and covers all of it", async () => {
  const sizeLb = 2 ** 35;
  const part = 2 ** 31;
  const discards = Array.from({ length: sizeLb / part }, (_, i) => [i * part, part] as const);
  for (const maxIoLb of [8, 2048]) {
    const { stats, plan, fileBytes } = await planOf(discards, maxIoLb);
    expect([stats.discardLb, plan.totalLb, plan.endLb]).toEqual([sizeLb, sizeLb, sizeLb]);
    expect(plan.pieces.count).toBeLessThanOrEqual(2 ** 20 + discards.length);
    expect(fileBytes).toBeLessThan(64 * 1024 * 1024);
  }
});

test("the discard of a small volume is cut as the original cuts it", async () => {
  const { stats, plan } = await planOf([[0, 2 ** 21]], 2048);
  expect([stats.discardRecords, plan.pieces.count]).toEqual([1024, 1024]);
});
