import { expect, test } from "bun:test";
import type { PackBatch } from "../../src/log/batch.ts";
import { cutBatches } from "../../src/storage/send-log.ts";
import { each, logPack, packBatch, payload, type TestPack, testPool } from "../helpers/wire.ts";

/** Packs of so many PB each, from an lsid. */
function packsOf(sizesPb: readonly number[], fromLsid = 0): TestPack[] {
  let lsid = fromLsid;
  return sizesPb.map((sizePb) => {
    const dataLb = sizePb - 1;
    const pack = logPack(
      lsid,
      [{ kind: "data", offsetLb: lsid, sizeLb: dataLb, data: payload(dataLb * 512, lsid) }],
      512,
      1,
    );
    lsid += sizePb;
    return pack;
  });
}

/** What comes out of a cut: lsids of the packs, and the ends that were told. */
async function cut(packs: readonly TestPack[], perBatch: number, fromLsid: number, limitLsid: number) {
  const pool = testPool();
  const batches: PackBatch[] = [];
  for (let at = 0; at < packs.length; at += perBatch) batches.push(packBatch(pool, packs.slice(at, at + perBatch)));
  let pulled = 0;
  const source = (async function* () {
    for (const batch of batches) {
      pulled += 1;
      yield batch;
    }
  })();
  const lsids: number[] = [];
  const ends: number[] = [];
  let failure = "";
  try {
    for await (const batch of cutBatches(source, { fromLsid, limitLsid }, (lsid) => ends.push(lsid))) {
      lsids.push(...batch.parts.map((part) => part.header.lsid));
      expect(batch.endLsid).toBe(ends.at(-1)!);
      batch.release();
    }
  } catch (error) {
    failure = (error as Error).message;
  }
  for (const batch of batches.slice(pulled)) batch.release();
  pool.expectEmpty();
  return { lsids, end: ends.at(-1), failure };
}

test("a range is cut behind the last pack that ends at or below its limit, however packs come in batches", async () => {
  const packs = packsOf([10, 10, 10, 10], 100);
  for (const perBatch of [1, 2, 3, 4]) {
    expect(await cut(packs, perBatch, 100, 140)).toEqual({ lsids: [100, 110, 120, 130], end: 140, failure: "" });
    expect(await cut(packs, perBatch, 100, 139)).toEqual({ lsids: [100, 110, 120], end: 130, failure: "" });
    expect(await cut(packs, perBatch, 100, 120)).toEqual({ lsids: [100, 110], end: 120, failure: "" });
  }
});

test("a pack that is larger than a transfer may be is an error that says which option helps", async () => {
  const { failure, lsids } = await cut(packsOf([50, 10]), 2, 0, 20);
  expect(failure).toContain("larger than a transfer may be (20 blocks)");
  expect(lsids).toEqual([]);
});

test("a range without packs is empty", async () => {
  expect(await cut([], 1, 7, 7)).toEqual({ lsids: [], end: undefined, failure: "" });
});

test("data that nobody wants any more is given back when the reader leaves", async () => {
  const pool = testPool();
  const batch = packBatch(pool, packsOf([10, 10]));
  for await (const one of cutBatches(each([batch]), { fromLsid: 0, limitLsid: 20 }, () => undefined)) {
    one.release();
    break;
  }
  pool.expectEmpty();
});
