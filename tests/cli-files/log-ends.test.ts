/** @module Where a log ends, and where it may begin: damage behind what was applied, ranges that begin inside a pack. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { showLogDevice } from "../../src/cli/files/lib/log-device.ts";
import { openLogDevice } from "../../src/cli/files/lib/log-range.ts";
import { plainTool } from "../../src/cli/files/lib/tool.ts";
import { sealBlock } from "../../src/log/checksum.ts";
import type { Memory } from "../../src/native/memory.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { original, walb } from "./tools.ts";

let directory = "";
/** Begins of all packs, and the end of the log. */
let lsids: number[] = [];
const at = (name: string): string => join(directory, name);

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "walb-log-ends-"));
  const generate = ["--seed", "9", "--size", "2M", "--log-size", "120K", "--max-io", "8K", "--max-pack", "16K"];
  await walb("wlog", "generate", ...generate, "--without-discard", "-o", at("in.wlog"));
  await walb("log-device", "format", at("log"), "--create", "1M", "--size", "2M");
  await walb("wlog", "restore", at("log"), "-i", at("in.wlog"));
  const shown = (await walb("log-device", "show", at("log"), "--packs", "--json")).out.trim().split("\n");
  const values = shown.map((line) => JSON.parse(line) as { type: string; lsid: number; reallyEndLsid: number });
  lsids = values.filter(({ type }) => type === "pack").map(({ lsid }) => lsid);
  lsids.push(values.at(-1)!.reallyEndLsid);
  expect(lsids.length).toBeGreaterThan(6);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A copy with a changed byte in the header of a pack. */
function damaged(pack: number): string {
  const log = readFileSync(at("log"));
  const offset = (10 + lsids[pack]!) * 512 + 40;
  log[offset] = log[offset]! ^ 1;
  writeFileSync(at("bad"), log);
  return at("bad");
}

test("a good pack behind the end of a log is told: nothing but it shows that a block before it is damaged", async () => {
  const [endLsid, strayLsid] = [lsids[2]!, lsids[3]!];
  const remark = `the log ends at lsid ${endLsid}, but behind it is a good pack at ${strayLsid}`;
  const bad = damaged(2);
  const exported = await walb("log-device", "export", bad, "-o", at("out"), "--overwrite", "--json");
  expect([exported.code, exported.err]).toEqual([0, expect.stringContaining(remark)]);
  expect(JSON.parse(exported.out)).toMatchObject({ endLsid, strayLsid, packs: 2 });
  const shown = await walb("log-device", "show", bad, "--json");
  expect([shown.code, shown.err]).toEqual([0, expect.stringContaining(remark)]);
  expect(JSON.parse(shown.out.trim().split("\n").at(-1)!)).toMatchObject({ reallyEndLsid: endLsid, strayLsid });
  for (const words of [
    ["wlog-cat", "-o", at("out"), bad],
    ["wldev-show", bad],
  ]) {
    const { code, err } = await original(words[0]!, ...words.slice(1));
    expect({ words, code, err }).toEqual({ words, code: 0, err: expect.stringContaining(remark) });
  }
  // What the remark says to do leads to the block.
  const command = /\(walb (.*) tells/.exec(exported.err)![1]!.split(" ");
  const searched = await walb(...command);
  expect([searched.code, searched.out]).toEqual([
    5,
    expect.stringContaining(`lsid ${endLsid}: no pack: checksum does not match; the next good one is at ${strayLsid}`),
  ]);
});

test("the end of a log, of a range, and of one whose last pack is torn bring no such remark", async () => {
  for (const words of [[], ["--to", String(lsids[3])], ["--to", String(lsids[3]! + 1)]]) {
    for (const verb of ["export", "show"]) {
      const output = verb === "export" ? ["-o", at("out"), "--overwrite"] : [];
      const { code, err } = await walb("log-device", verb, at("log"), ...words, ...output);
      expect({ words, verb, code, err }).toEqual({ words, verb, code: 0, err: "" });
    }
  }
  const { code, err } = await walb("log-device", "export", damaged(lsids.length - 2), "-o", at("out"), "--overwrite");
  expect([code, err]).toEqual([0, ""]);
});

test("a range that begins inside a pack or behind the log is refused, naming the packs around it", async () => {
  rmSync(at("out"), { force: true });
  const inside = lsids[3]! + 1;
  const near = `no pack begins at lsid ${inside}: it lies in the pack from ${lsids[3]} to ${lsids[4]}`;
  for (const verb of ["export", "show"]) {
    const output = verb === "export" ? ["-o", at("out")] : [];
    const { code, err } = await walb("log-device", verb, at("log"), "--from", String(inside), ...output);
    expect({ verb, code, err }).toEqual({ verb, code: 2, err: expect.stringContaining(near) });
    expect(err).toContain(`begin at ${lsids[3]} or at ${lsids[4]}`);
    const end = lsids.at(-1)!;
    const behind = await walb("log-device", verb, at("log"), "--from", String(end + 5), ...output);
    expect([behind.code, behind.err]).toEqual([
      2,
      expect.stringContaining(`no pack begins at lsid ${end + 5}: the log ends at ${end}`),
    ]);
  }
  for (const words of [
    ["wlog-cat", "-b", String(inside), "-o", at("out"), at("log")],
    ["wldev-show", "-b", String(inside), at("log")],
  ]) {
    const { code, err } = await original(words[0]!, ...words.slice(1));
    expect({ words, code, err }).toEqual({ words, code: 1, err: expect.stringContaining(near) });
  }
  expect(existsSync(at("out"))).toBe(false);
});

test("a range that begins at the end of the log is empty, and one at a damaged pack says so", async () => {
  const end = lsids.at(-1)!;
  const empty = await walb("log-device", "export", at("log"), "--from", String(end), "-o", at("empty"), "--json");
  expect([empty.code, empty.err]).toEqual([0, ""]);
  expect(JSON.parse(empty.out)).toMatchObject({ beginLsid: end, endLsid: end, packs: 0 });
  expect((await walb("wlog", "verify", at("empty"))).code).toBe(0);
  const bad = await walb(
    "log-device",
    "export",
    damaged(2),
    "--from",
    String(lsids[2]),
    "-o",
    at("out"),
    "--overwrite",
  );
  expect(bad.err).toContain(`a good pack at ${lsids[3]}`);
});

test("a log whose written_lsid lies inside a pack is damaged, naming the field", async () => {
  const log = readFileSync(at("log"));
  new DataView(log.buffer, log.byteOffset).setBigUint64(4096 + 88, BigInt(lsids[2]! + 1), true);
  sealBlock(log.subarray(4096, 4608), 4, 0);
  writeFileSync(at("inside"), log);
  const { code, err } = await walb("log-device", "check", at("inside"));
  expect([code, err]).toEqual([5, expect.stringContaining(`lies inside the pack at ${lsids[2]}`)]);
  expect(err).toContain("offset 4096, field written_lsid");
});

test("redo tells what it cleared behind the end of a log", async () => {
  const bad = damaged(2);
  writeFileSync(at("data"), Buffer.alloc(2 * 1024 * 1024));
  const { code, out } = await walb("log-device", "redo", bad, at("data"));
  expect([code, out]).toEqual([
    0,
    expect.stringMatching(/: 2 packs; cleared [1-9]\d* leftovers of a crash behind its end/),
  ]);
});

test("a log that is written while it is read has no remark: what lies behind its end came later", async () => {
  const platform = createPlatform({ memoryBudgetBytes: 64 * 1024 * 1024, threads: 2 });
  const tool = plainTool(platform);
  const file = await platform.disk.open(at("log"), { mode: "read" });
  const endBytes = (10 + lsids[2]!) * 512;
  try {
    for (const isWritten of [true, false]) {
      let isThere = false;
      const read = async (offsetBytes: number, target: Memory): Promise<void> => {
        await file.read(offsetBytes, target);
        if (isWritten && offsetBytes === endBytes + 512) isThere = true;
        const startBytes = endBytes - offsetBytes;
        if (!isThere && startBytes >= 0 && startBytes < target.sizeBytes)
          target.bytes.fill(0, startBytes, startBytes + 512);
      };
      const growing = new Proxy(file, {
        get: (target, key) => {
          const value: unknown = key === "read" ? read : Reflect.get(target, key);
          return typeof value === "function" && key !== "read" ? value.bind(target) : value;
        },
      });
      const device = await openLogDevice(tool, growing);
      const shown = await showLogDevice(tool, device, {}, () => undefined);
      expect({ isThere, end: shown.counts.reallyEndLsid }).toEqual({ isThere: isWritten, end: BigInt(lsids[2]!) });
      expect(shown.strayLsid).toBe(isWritten ? undefined : BigInt(lsids[3]!));
    }
  } finally {
    await file.close();
    await closePlatform(platform);
  }
});
