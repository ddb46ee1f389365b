import { expect, test } from "bun:test";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Codec } from "../../src/native/codec.ts";
import type { BadTransfer, DiskFile, TransferFlow } from "../../src/platform/disk.ts";
import { io } from "../helpers/diff.ts";
import { numbers } from "../helpers/numbers.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const block = 4096;
const sourceBlocks = 2048;

const random = numbers(99);

/** A write of blocks of the source to a block of the target. */
interface Row {
  readonly from: number;
  readonly blocks: number;
  readonly to: number;
}

const someRows = (count: number, targetBlocks: number): Row[] =>
  Array.from({ length: count }, () => {
    const blocks = random(40) === 0 ? 1 + random(800) : 1 + random(8);
    return { blocks, from: random(sourceBlocks - blocks), to: random(targetBlocks) };
  });

function apply(image: Uint8Array, source: Uint8Array, rows: readonly Row[]): void {
  for (const { from, blocks, to } of rows)
    image.set(source.subarray(from * block, (from + blocks) * block), to * block);
}

/** Starts a job of raw rows. @param badRow gets a checksum that is wrong. */
function start(
  flow: TransferFlow | undefined,
  target: DiskFile,
  source: DiskFile,
  data: Uint8Array,
  rows: readonly Row[],
  badRow = -1,
): Promise<BadTransfer | undefined> {
  return target.transfer!(
    [source],
    rows.length,
    (table) => {
      rows.forEach(({ from, blocks, to }, i) => {
        const bytes = blocks * block;
        const sum = io.compute.checksumNow(data.subarray(from * block, (from + blocks) * block), 0);
        const checksum = i === badRow ? sum ^ 1 : sum;
        table.put(0, from * block, bytes, Codec.none, checksum >>> 0, bytes, 0, bytes, to * block);
      });
    },
    { flow },
  );
}

async function withFiles(use: (source: DiskFile, target: DiskFile, data: Uint8Array) => Promise<void>): Promise<void> {
  await withTemporaryDirectory(async (directory) => {
    const data = new Uint8Array(sourceBlocks * block);
    for (let i = 0; i < data.length; i++) data[i] = i % 8 === 0 ? random(256) : i >> 12;
    writeFileSync(join(directory, "source"), data);
    const source = await io.disk.open(join(directory, "source"), { mode: "read" });
    const target = await io.disk.open(join(directory, "target"), { mode: "create" });
    try {
      await use(source, target, data);
    } finally {
      await source.close();
      await target.close();
    }
  });
}

test("jobs of a flow that write over each other leave what the last one wrote, however many work at once", async () => {
  await withFiles(async (source, target, data) => {
    const targetBlocks = 1000;
    await target.truncate((targetBlocks + 800) * block);
    const expected = new Uint8Array((targetBlocks + 800) * block);
    const flow = target.startFlow!({ isStrict: true });
    const jobs = Array.from({ length: 60 }, () => {
      const rows = someRows(1 + random(300), targetBlocks);
      apply(expected, data, rows);
      return start(flow, target, source, data, rows);
    });
    expect(await Promise.all(jobs)).toEqual(jobs.map(() => undefined));
    flow.end();
    expect(readFileSync(target.path).equals(expected)).toBe(true);
  });
}, 60_000);

test("small jobs of a flow, few of which find work of their own, all end", async () => {
  await withFiles(async (source, target, data) => {
    for (let round = 0; round < 150; round++) {
      const flow = target.startFlow!();
      const jobs = Array.from({ length: 3 }, () => {
        const rows = Array.from({ length: 1 + random(2) }, () => ({
          blocks: 500,
          from: random(1500),
          to: random(500),
        }));
        return start(flow, target, source, data, rows);
      });
      expect(await Promise.all(jobs)).toEqual(jobs.map(() => undefined));
      flow.end();
    }
  });
}, 60_000);

test("nothing behind a bad row of a strict flow is written, and all before it is", async () => {
  await withFiles(async (source, target, data) => {
    const targetBlocks = 1000;
    for (let round = 0; round < 20; round++) {
      await target.truncate(0);
      await target.truncate((targetBlocks + 800) * block);
      const expected = new Uint8Array((targetBlocks + 800) * block);
      const flow = target.startFlow!({ isStrict: true });
      const badJob = random(6);
      const jobs: Promise<unknown>[] = [];
      let badRow = 0;
      for (let i = 0; i < 8; i++) {
        const rows = someRows(1 + random(600), targetBlocks);
        badRow = i === badJob ? random(rows.length) : badRow;
        if (i < badJob) apply(expected, data, rows);
        if (i === badJob) apply(expected, data, rows.slice(0, badRow));
        const job = start(flow, target, source, data, rows, i === badJob ? badRow : -1);
        jobs.push(job.catch((error: unknown) => error));
      }
      const answers = await Promise.all(jobs);
      flow.end();
      expect(answers.slice(0, badJob)).toEqual(jobs.slice(0, badJob).map(() => undefined));
      expect(answers[badJob]).toEqual({ row: badRow, code: 1 });
      for (const answer of answers.slice(badJob + 1)) expect(answer).toMatchObject({ code: "io" });
      expect(readFileSync(target.path).equals(expected)).toBe(true);
    }
  });
}, 60_000);

test("what is bad in a flow that is not strict is told, and the rest written", async () => {
  await withFiles(async (source, target, data) => {
    const rows = Array.from({ length: 600 }, (_, i) => ({ from: i, blocks: 1, to: i }));
    const flow = target.startFlow!();
    const jobs = [start(flow, target, source, data, rows, 17), start(flow, target, source, data, rows, 300)];
    expect(await Promise.all(jobs)).toEqual([
      { row: 17, code: 1 },
      { row: 300, code: 1 },
    ]);
    flow.end();
    expect(readFileSync(target.path).equals(data.subarray(0, 600 * block))).toBe(true);
  });
}, 60_000);

test("a read or write that fails names its file, and the jobs behind it fail too", async () => {
  await withFiles(async (source, target, data) => {
    const rows = Array.from({ length: 1500 }, (_, i) => ({ from: i, blocks: 1, to: i }));
    truncateSync(source.path, 1000 * block);
    const flow = target.startFlow!();
    const jobs = [start(flow, target, source, data, rows.slice(0, 900))];
    for (let i = 0; i < 4; i++) jobs.push(start(flow, target, source, data, rows.slice(900)));
    const [first, ...others] = await Promise.all(jobs.map((job) => job.catch((error: unknown) => error)));
    flow.end();
    expect(first).toBeUndefined();
    expect(others[0]).toMatchObject({ code: "io", where: { file: source.path, offsetBytes: 1000 * block } });
    expect(String(others[0])).toContain(`read of ${block} stored bytes ended early`);
    for (const other of others) expect(other).toMatchObject({ code: "io" });
    expect(
      readFileSync(target.path)
        .subarray(0, 900 * block)
        .equals(data.subarray(0, 900 * block)),
    ).toBe(true);

    const readOnly = await io.disk.open(target.path, { mode: "read" });
    const refused = readOnly.startFlow!();
    const failure = start(refused, readOnly, source, data, rows.slice(0, 10)).catch((error: unknown) => error);
    expect(await failure).toMatchObject({ code: "io", where: { file: target.path, offsetBytes: 0 } });
    expect(String(await failure)).toContain(`write of ${10 * block} bytes failed: Bad file descriptor (EBADF)`);
    refused.end();
    await readOnly.close();
  });
}, 60_000);

test("a flow whose job never came lets nobody wait for it", async () => {
  await withFiles(async (source, target, data) => {
    const rows = someRows(10, 100);
    const flow = target.startFlow!();
    await start(flow, target, source, data, rows);
    await source.close();
    const closed = await io.disk.open(target.path, { mode: "write" });
    await closed.close();
    // It takes its place in the flow, and is refused then.
    const refused = start(flow, closed, target, data, rows).catch((error: unknown) => error);
    expect(await refused).toMatchObject({ code: "internal" });
    const behind = start(flow, target, target, data, rows).catch((error: unknown) => error);
    expect(await behind).toMatchObject({ code: "io" });
    flow.end();
  });
}, 60_000);
