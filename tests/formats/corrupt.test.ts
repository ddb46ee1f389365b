import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { planMerge } from "../../src/diff/merge.ts";
import { writeMerged } from "../../src/diff/output.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import { verifyDiff } from "../../src/diff/verify.ts";
import { WalbError } from "../../src/errors.ts";
import { WlogReader } from "../../src/log/wlogfile.ts";
import { createMemoryIo } from "../helpers/memory-disk.ts";
import { sha256, vectorBytes, vectorsDirectory, vectorText } from "../helpers/vectors.ts";
import { bytesInput, convertWlog, redoDiffs, redoWlog } from "../helpers/wlogs.ts";

interface OriginalResult {
  readonly cmd: string;
  readonly rc: number;
  readonly img_sha256?: string;
}

interface Entry {
  readonly mutation: string;
  readonly results: readonly OriginalResult[];
}

const io = createMemoryIo();
const imageBytes = 1024 * 1024;

/** What the original's tools are to us. */
const operations: readonly (readonly [RegExp, string])[] = [
  [/^wlog-show/, "read"],
  [/^wlog-to-wdiff/, "convert"],
  [/^wlog-redo/, "redo"],
  [/^wdiff-show -csum/, "verify"],
  [/^wdiff-show/, "list"],
  [/^wdiff-redo/, "redo"],
  [/^wdiff-merge/, "merge"],
];

/** How a log ended, or refused to. Callers take only `end block` for complete, unless they are asked for less. */
async function readLog(bytes: Uint8Array, name: string): Promise<string> {
  const reader = new WlogReader(bytesInput(bytes, name), io.readPool, io.compute);
  if ((await reader.nextHeader()) === undefined) return "empty";
  const packs = reader.packs();
  for (;;) {
    const step = await packs.next();
    if (step.done) return step.value.hasEndBlock ? "ok" : "no end block";
    step.value.release();
  }
}

async function operate(operation: string, name: string, bytes: Uint8Array): Promise<string> {
  io.disk.put("/image", new Uint8Array(imageBytes));
  io.disk.put(`/${name}`, bytes);
  const image = await io.disk.open("/image", { mode: "write" });
  const isLog = name.endsWith(".wlog");
  try {
    if (operation === "read") return await readLog(bytes, name);
    if (operation === "convert") {
      await convertWlog(io, bytesInput(bytes, name), "/out", { kind: "sorted", maxIoLb: 2048 });
    } else if (operation === "redo" && isLog) {
      await redoWlog(io, bytesInput(bytes, name), image, imageBytes / 512);
    } else if (operation === "redo") await redoDiffs(io, [`/${name}`], image, imageBytes / 512);
    else if (operation === "verify") await verifyDiff(io, `/${name}`);
    else {
      const set = await openDiffSet(io, [`/${name}`]);
      try {
        const out = await io.disk.open("/out", { mode: "create" });
        if (operation === "merge") await writeMerged(io, set, planMerge(set.records), out);
      } finally {
        await set.close();
      }
    }
    return isLog ? await readLog(bytes, name) : "ok";
  } catch (error) {
    if (!(error instanceof WalbError)) throw error;
    expect(error.where.file).toEndWith(name);
    return `${error.code} ${error.where.field ?? `at ${error.where.offsetBytes}`}`;
  } finally {
    for (const path of ["/out", `/${name}`]) await io.disk.remove(path);
    expect(io.memory.leasedBytes + io.readPool.leasedBytes).toBe(0);
  }
}

/** What ours does: each operation in the order of the original's results. Differences are in docs/formats-differences.md. */
const ours: Readonly<Record<string, readonly string[]>> = {
  "wlog-head.wlog": ["damaged checksum", "damaged checksum", "damaged checksum"],
  "wlog-pack.wlog": ["damaged checksum", "damaged checksum", "damaged checksum"],
  "wlog-io.wlog": ["damaged checksum", "damaged checksum", "damaged checksum"],
  "wlog-trunc-io.wlog": ["damaged at 25600", "damaged at 25600", "damaged at 25600"],
  "wlog-trunc-pack.wlog": ["no end block", "no end block", "no end block"],
  "wlog-noend.wlog": ["no end block", "no end block", "no end block"],
  "wlog-empty.wlog": ["empty", "empty", "empty"],
  "s-head.wdiff": ["bad-format checksum", "bad-format checksum", "bad-format checksum", "bad-format checksum"],
  "s-pack.wdiff": ["bad-format checksum", "bad-format checksum", "bad-format checksum", "bad-format checksum"],
  "s-data.wdiff": ["ok", "damaged at 4128", "damaged at 4128", "damaged at 4128"],
  "s-trunc.wdiff": ["damaged total_size", "damaged total_size", "damaged total_size", "damaged total_size"],
  "s-noend.wdiff": ["damaged at 7715", "damaged at 7715", "damaged at 7715", "damaged at 7715"],
  "i-head.wdiff": ["bad-format checksum", "bad-format checksum", "bad-format checksum", "bad-format checksum"],
  "i-data.wdiff": ["ok", "damaged at 32", "damaged at 32", "damaged at 32"],
  "i-rec.wdiff": [
    "bad-format rec_checksum",
    "bad-format rec_checksum",
    "bad-format rec_checksum",
    "bad-format rec_checksum",
  ],
  "i-super.wdiff": ["bad-format checksum", "bad-format checksum", "bad-format checksum", "bad-format checksum"],
  "i-trunc.wdiff": ["bad-format checksum", "bad-format checksum", "bad-format checksum", "bad-format checksum"],
};

describe.skipIf(vectorsDirectory === undefined)("damaged files of the original", () => {
  const entries: [string, Entry][] =
    vectorsDirectory === undefined
      ? []
      : Object.entries(JSON.parse(vectorText("corrupt/results.json")) as Record<string, Entry>);

  test("are all in the table", () => {
    expect(entries.map(([name]) => name).filter((name) => ours[name] === undefined)).toEqual([]);
    expect(entries.length).toBeGreaterThanOrEqual(Object.keys(ours).length);
  });

  const differences = new Set<string>();
  for (const [name, { mutation, results }] of entries) {
    test(`${name} (${mutation}): never laxer than the original, and the same image where both take it`, async () => {
      const bytes = await vectorBytes(`corrupt/${name}`);
      const seen: string[] = [];
      for (const { cmd, rc, img_sha256 } of results) {
        const operation = operations.find(([pattern]) => pattern.test(cmd))?.[1];
        if (operation === undefined) throw new Error(`no operation is like ${cmd}`);
        const outcome = await operate(operation, name, bytes);
        seen.push(outcome);
        if (rc !== 0) expect(`${cmd}: ${outcome}`).not.toBe(`${cmd}: ok`);
        if (rc === 0 && outcome !== "ok") differences.add(name);
        // What the original took for the end is where ours stops too: what is before has the same effect.
        if (rc === 0 && operation === "redo" && name.endsWith(".wlog")) {
          expect(`${cmd} ${sha256(io.disk.get("/image"))}`).toBe(`${cmd} ${img_sha256}`);
        }
      }
      const expected = ours[name];
      if (expected !== undefined) expect(seen).toEqual([...expected]);
    });
  }

  test("for which ours is stricter are listed in the documentation", () => {
    const text = readFileSync(join(import.meta.dir, "../../docs/formats-differences.md"), "utf8");
    for (const name of differences) expect(text).toContain(`\`${name}\``);
    expect(differences.size).toBeGreaterThan(4);
  });

  test("s-noend.wdiff, when asked for, gives the image the original makes of it", async () => {
    io.disk.put("/s-noend", await vectorBytes("corrupt/s-noend.wdiff"));
    const set = await openDiffSet(io, ["/s-noend"], { lenient: true });
    const out = await io.disk.open("/out", { mode: "create" });
    await writeMerged(io, set, planMerge(set.records), out);
    await set.close();
    io.disk.put("/image", new Uint8Array(imageBytes));
    await redoDiffs(io, ["/out"], await io.disk.open("/image", { mode: "write" }), imageBytes / 512);
    const redo = entries.find(([name]) => name === "s-noend.wdiff")![1].results.find(({ cmd }) => /redo/.test(cmd))!;
    expect(sha256(io.disk.get("/image"))).toBe(redo.img_sha256!);
    await io.disk.remove("/out");
  });
});
