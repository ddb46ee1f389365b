/** @module Tools to look into what is damaged: searching a log, dumping blocks, verifying diffs, mending headers. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Ran } from "../helpers/quiet-io.ts";
import { original, walb } from "./tools.ts";

let directory = "";
const at = (name: string): string => join(directory, name);

async function good(...words: string[]): Promise<string> {
  const { code, out, err } = await walb(...words);
  expect({ words, code, err }).toEqual({ words, code: 0, err: "" });
  return out;
}

interface Pack {
  readonly lsid: number;
  readonly totalDataPb: number;
  readonly records: readonly { readonly kind: string; readonly lsid: number }[];
}
let packs: Pack[] = [];
const ringAt = 10;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "walb-repair-"));
  const generate = ["--seed", "3", "--size", "2M", "--log-size", "256K", "--max-io", "8K", "--max-discard", "64K"];
  await good("wlog", "generate", ...generate, "-o", at("a.wlog"));
  await good("log-device", "format", at("log"), "--create", "1M", "--size", "2M");
  await good("wlog", "restore", at("log"), "-i", at("a.wlog"));
  writeFileSync(at("data"), Buffer.alloc(2 * 1024 * 1024));
  await good("log-device", "redo", at("log"), at("data"));
  const lines = (await good("wlog", "show", at("a.wlog"), "--packs", "--json")).trim().split("\n");
  packs = lines.map((line) => JSON.parse(line)).filter(({ type }) => type === "pack");
  expect(packs.length).toBeGreaterThan(3);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A copy of the log with bits flipped at bytes of lsids. */
function damagedLog(...places: readonly (readonly [number, number])[]): string {
  const log = readFileSync(at("log"));
  for (const [lsid, byte] of places) log[(ringAt + lsid) * 512 + byte]! ^= 1;
  writeFileSync(at("bad-log"), log);
  return at("bad-log");
}

describe("a log device", () => {
  test("that is whole has no faults", async () => {
    const { packs: count, damaged } = JSON.parse(await good("log-device", "search", at("log"), "--json"));
    expect([count, damaged]).toEqual([packs.length, 0]);
  });

  test("that is damaged is gone through to its end, and every fault is told", async () => {
    const [, second, third] = packs as [Pack, Pack, Pack];
    const record = third.records.findIndex(({ kind }) => kind === "data");
    const log = damagedLog([second.lsid, 100], [third.records[record]!.lsid, 5]);
    const { code, out } = await walb("log-device", "search", log, "--json");
    const told = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(code).toBe(5);
    expect(told).toMatchObject([
      { type: "damage", kind: "header", lsid: second.lsid, nextLsid: third.lsid, fault: { field: "checksum" } },
      { type: "damage", kind: "data", lsid: third.lsid, recordIndex: record },
      { type: "counts", packs: packs.length - 1, damaged: 2 },
    ]);
    const theirs = await original("search-invalid-logpack", log);
    expect([theirs.code, theirs.out.split("\n").length]).toEqual([0, 4]);
    const heads = await original("search-invalid-logpack", "-head", log);
    expect(heads.out).toContain(`the next good one is at ${third.lsid}`);
    expect(heads.out.split("\n").length).toBe(3);
  });

  test("tells where the headers of lsids lie, also bad ones", async () => {
    const [first, second] = packs as [Pack, Pack];
    const log = damagedLog([second.lsid, 100]);
    const lsids = [first.lsid, second.lsid, 999_999].map(String);
    const out = await good("log-device", "search", log, ...lsids, "--json");
    expect(
      out
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual([
      { type: "header", addressPb: ringAt + first.lsid, lsid: first.lsid, isValid: true },
      { type: "header", addressPb: ringAt + second.lsid, lsid: second.lsid, isValid: false },
    ]);
    const theirs = await original("search-lsid", log, ...lsids);
    expect(theirs.out).toBe(
      `${ringAt + first.lsid}\t${first.lsid}\tvalid\n${ringAt + second.lsid}\t${second.lsid}\tinvalid\n`,
    );
  });

  test("is dumped as it is, and a dumped header is shown", async () => {
    const { lsid, totalDataPb } = packs[1]!;
    const range = ["--from", String(lsid), "--to", String(lsid + 1 + totalDataPb)];
    await good("log-device", "dump", at("log"), ...range, "-o", at("dump"), "-q", "--overwrite");
    const want = readFileSync(at("log"))
      .subarray((ringAt + lsid) * 512)
      .subarray(0, (1 + totalDataPb) * 512);
    expect(readFileSync(at("dump")).equals(want)).toBe(true);
    expect((await original("wldev-dump", "-o", at("raw"), at("log"), String(lsid), String(lsid + 1))).code).toBe(0);
    const { salt } = JSON.parse((await good("wlog", "show", at("a.wlog"), "--json")).split("\n")[0]!);
    const shown = await original("wlog-show-raw", at("raw"), "512", String(salt));
    expect((await original("wlog-show", at("a.wlog"))).out).toContain(shown.out);
    expect((await original("wlog-show-raw", at("raw"), "512", "1")).code).toBe(1);
    const far = await walb("log-device", "dump", at("log"), "--from", "0", "--to", "999999", "-o", at("no"));
    expect([far.code, far.err]).toEqual([2, expect.stringContaining("no part of a ring")]);
  });
});

test("the header of a wlog is changed in its place", async () => {
  copyFileSync(at("a.wlog"), at("b.wlog"));
  const uuid = "0123456789abcdef0123456789abcdef";
  const end = 18_446_744_073_709_551_614n;
  await good("wlog", "update", at("b.wlog"), "--uuid", uuid, "--end", String(end));
  const show = async (): Promise<string> => (await original("wlog-show", "-head", at("b.wlog"))).out;
  expect(await show()).toContain(`uuid ${uuid} lsid 0 ${end}\n`);
  expect((await original("wlog-update", "-e", "5", "-s", "7", at("b.wlog"))).code).toBe(0);
  expect(await show()).toContain(`salt 00000007 uuid ${uuid} lsid 0 5\n`);
  const empty = await walb("wlog", "update", at("b.wlog"), "--begin", "5");
  expect([empty.code, empty.err]).toEqual([2, expect.stringContaining("would hold nothing")]);
  expect(
    readFileSync(at("b.wlog"))
      .subarray(4096)
      .equals(readFileSync(at("a.wlog")).subarray(4096)),
  ).toBe(true);
});

test("diffs are verified, each for itself, with all their data", async () => {
  for (const kind of [[], ["--indexed"]]) {
    await good("wlog", "to-wdiff", "-i", at("a.wlog"), ...kind, "-o", at("good.wdiff"), "--overwrite", "-q");
    const bytes = readFileSync(at("good.wdiff"));
    bytes[kind.length === 0 ? 32 + 4096 + 50 : 60]! ^= 4;
    writeFileSync(at("bad.wdiff"), bytes);
    const ran: Ran = await walb("wdiff", "verify", at("bad.wdiff"), at("good.wdiff"), "--json");
    expect(ran.code).toBe(5);
    expect(
      ran.out
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toMatchObject([
      { file: at("bad.wdiff"), isGood: false, damage: { code: "damaged" } },
      { file: at("good.wdiff"), isGood: true, files: 1 },
    ]);
    expect(await good("wdiff", "verify", at("good.wdiff"))).toContain("good, ");
    expect((await walb("wdiff", "verify", at("missing.wdiff"))).code).toBe(1);
  }
});

test("what a recipe wrote is looked up on the device", async () => {
  writeFileSync(at("device"), Buffer.alloc(8192, 1));
  // 1024 bytes of 01 and 512: 256 and 128 words of 0x01010101, negated.
  const sum = (words: number): string => (-(words * 0x0101_0101) >>> 0).toString(16).padStart(8, "0");
  writeFileSync(at("recipe"), `0 2 ${sum(256)}\n5 1 ${sum(128)}\n`);
  const fine = await original("verify_written_data", "-r", at("recipe"), at("device"));
  expect(fine).toEqual({ code: 0, out: `OK 0 2 ${sum(256)} ${sum(256)}\nOK 5 1 ${sum(128)} ${sum(128)}\n`, err: "" });
  writeFileSync(at("recipe"), `0 2 00000001\n`);
  expect((await original("verify_written_data", "-r", at("recipe"), at("device"))).code).toBe(1);
});
