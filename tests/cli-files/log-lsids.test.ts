/** @module Log devices whose lsids no number holds exactly: every tool tells and keeps all 64 bits. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sealBlock } from "../../src/log/checksum.ts";
import type { Ran } from "../helpers/quiet-io.ts";
import { original, walb } from "./tools.ts";

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "walb-log-lsids-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const at = (name: string): string => join(directory, name);
const sizeBytes = 2 * 1024 * 1024;

async function good(ran: Promise<Ran>): Promise<string> {
  const { code, out, err } = await ran;
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return out;
}

/** A log device whose log begins at an lsid, by restoring a wlog there, and the wlog. */
async function logAt(name: string, begin: bigint, pbs: string): Promise<void> {
  const generate = ["--seed", "6", "--size", "2M", "--log-size", pbs === "512" ? "120K" : "700K", "--max-io", "8K"];
  await good(
    walb("wlog", "generate", ...generate, "--block-size", pbs, "--lsid", "0", "-o", at(`${name}.wlog`), "--overwrite"),
  );
  await good(walb("log-device", "format", at(name), "--create", "1M", "--size", "2M", "--block-size", pbs));
  await good(walb("wlog", "restore", at(name), "-i", at(`${name}.wlog`), "--shift", String(begin), "--verify"));
}

/** A text whose lsids, which all lie near `begin`, are moved to lie near `to`. */
function moved(text: string, begin: bigint, to: bigint): string {
  return text.replace(/\d{12,20}/g, (digits) => {
    const lsid = BigInt(digits) - begin;
    return lsid >= 0n && lsid < 1_000_000n ? String(to + lsid) : digits;
  });
}

for (const pbs of ["512", "4096"]) {
  describe(`a log device with blocks of ${pbs} that begins at or beyond 2^53`, () => {
    const ringPb = BigInt(pbs === "512" ? 2048 - 10 : 256 - 3);
    // The same places in the ring, once near 0, once beyond 2^53, and once so that it ends shortly before 2^64 - 1.
    const near = ringPb - 30n;
    const far = [2n ** 53n + 1n, 2n ** 64n - 1000n].map((lsid) => lsid - (lsid % ringPb) + near - ringPb);
    const farther = far.map((lsid) => (lsid > 2n ** 64n - 2000n ? lsid - ringPb : lsid));

    test("is what one with small lsids is: shown, searched, dumped, checked, exported, redone", async () => {
      await logAt("near", near, pbs);
      for (const [i, begin] of farther.entries()) {
        const name = `far${i}`;
        await logAt(name, begin, pbs);
        const both = async (tool: typeof walb, words: (log: string) => string[]): Promise<void> => {
          const shift = (text: string) => moved(text, begin, near).replaceAll(name, "near").replace(/ +/g, " ");
          const [one, other] = [await good(tool(...words("near"))), await good(tool(...words(name)))];
          const unsealed = (text: string) => text.replace(/(csum |checksum":|checksum: ?)[0-9a-f]+/g, "$1");
          expect(unsealed(shift(other))).toBe(unsealed(shift(one)));
        };
        const run = (...words: string[]) => both(walb, (log) => words.map((word) => (word === "LOG" ? at(log) : word)));
        await run("log-device", "check", "LOG", "--json");
        await run("log-device", "search", "LOG", "--json");
        await both(
          (...words) => original(words[0]!, ...words.slice(1)),
          (log) => ["wldev-show", at(log)],
        );
        const shown = await good(walb("log-device", "show", at(name), "--packs", "--json"));
        expect(shown).toContain(`"oldestLsid":${begin},"writtenLsid":${begin},`);
        expect(await good(original("wldev-info", at(name)))).toContain(`oldestLsid: ${begin}\nwrittenLsid: ${begin}\n`);
        expect(await good(original("search-lsid", at(name), String(begin)))).toMatch(new RegExp(`\t${begin}\tvalid`));

        // A part of it, from a pack in the middle on, and the raw header of that pack.
        const packs = [...shown.matchAll(/"type":"pack".*?"lsid":(\d+)/g)].map((match) => BigInt(match[1]!));
        expect(packs.length).toBeGreaterThan(2);
        const [from, to] = [packs[1]!, packs[2]!];
        const bounds = ["--from", String(from), "--to", String(to)];
        const part = await good(
          walb("log-device", "export", at(name), ...bounds, "-o", at("part"), "--overwrite", "--json"),
        );
        expect(part).toContain(`"beginLsid":${from},"endLsid":${to},"packs":1`);
        expect(await good(original("wlog-show", "-head", at("part")))).toContain(` lsid ${from} ${to}\n`);
        await good(original("wldev-dump", "-o", at("raw"), at(name), String(from), String(from + 1n)));
        const salt = new DataView(readFileSync(at(name)).buffer).getUint32(4096 + 20, true);
        expect(await good(original("wlog-show-raw", at("raw"), pbs, String(salt)))).toContain(`wlog_p: lsid ${from} `);

        // All of it: the same writes, and the same bytes but for the lsids.
        await good(walb("log-device", "export", at(name), "-o", at(`${name}.out`), "--overwrite"));
        await good(walb("log-device", "export", at("near"), "-o", at("near.out"), "--overwrite"));
        const image = async (wlog: string): Promise<Buffer> => {
          writeFileSync(at("image"), Buffer.alloc(sizeBytes, 0xff));
          await good(walb("wlog", "redo", at("image"), "-i", wlog));
          return readFileSync(at("image"));
        };
        expect((await image(at(`${name}.out`))).equals(await image(at("near.wlog")))).toBe(true);
        expect(readFileSync(at(`${name}.out`)).length).toBe(readFileSync(at("near.out")).length);

        const dry = await good(walb("log-device", "redo", at(name), at("data"), "--dry-run", "--json"));
        expect(dry).toContain(`"fromLsid":${begin},`);
        writeFileSync(at("data"), Buffer.alloc(sizeBytes, 0xff));
        expect(await good(original("wdev-redo", at(name), at("data")))).toContain(`Applied lsid range [${begin}, `);
        expect(readFileSync(at("data")).equals(await image(at("near.wlog")))).toBe(true);
        const again = await good(walb("log-device", "redo", at(name), at("data"), "--json"));
        expect(again).toContain('"packs":0,');
        rmSync(at(name));
        rmSync(at(`${name}.wlog`));
      }
      rmSync(at("near"));
      rmSync(at("near.wlog"));
    }, 300_000);
  });
}

test("a log that would not end below 2^64 - 1 is not restored, and one that says so is refused by field", async () => {
  await logAt("log", 0n, "512");
  const late = await walb(
    "wlog",
    "restore",
    at("log"),
    "-i",
    at("log.wlog"),
    "--overwrite",
    "--shift",
    String(2n ** 64n - 50n),
  );
  expect([late.code, late.err]).toEqual([1, expect.stringContaining("would end at lsid")]);
  const log = readFileSync(at("log"));
  const view = new DataView(log.buffer, log.byteOffset);
  view.setBigUint64(4096 + 88, 2n ** 60n, true);
  sealBlock(log.subarray(4096, 4608), 4, 0);
  writeFileSync(at("log"), log);
  const torn = await walb("log-device", "show", at("log"));
  expect([torn.code, torn.err]).toEqual([
    5,
    expect.stringContaining(`written ${2n ** 60n} is too far beyond oldest 0`),
  ]);
});

test("a device does not go on with such a log, and says which field keeps it and what to do", async () => {
  const { createMemoryIo } = await import("../helpers/memory-disk.ts");
  const { readSuperblock } = await import("../../src/log/format.ts");
  await logAt("device", 2n ** 53n + 7n, "512");
  const io = createMemoryIo(4 * 1024 * 1024);
  io.disk.put("/log", new Uint8Array(readFileSync(at("device"))));
  const refusal = readSuperblock(await io.disk.open("/log", { mode: "read" }), io.memory);
  await expect(refusal).rejects.toMatchObject({
    code: "out-of-range",
    where: { file: "/log", field: "oldest_lsid" },
    message: expect.stringContaining(`oldest_lsid is ${2n ** 53n + 7n}`),
    hint: expect.stringContaining("log-device redo"),
  });
});

test("an end_lsid between 2^53 and 2^64 - 1 is kept and told to the last digit", async () => {
  const end = 2n ** 53n + 3n;
  await logAt("ended", 0n, "512");
  await good(walb("wlog", "update", at("ended.wlog"), "--end", String(end)));
  expect(await good(walb("wlog", "show", at("ended.wlog"), "--json"))).toContain(`"beginLsid":0,"endLsid":${end}}`);
  expect(await good(original("wlog-show", "-stat", at("ended.wlog")))).toContain(`endLsid ${end}\n`);
  expect(await good(walb("wlog", "verify", at("ended.wlog")))).toContain("good");
  for (const verb of ["export", "show"]) {
    const output = verb === "export" ? ["-o", at("ended.out")] : [];
    await good(walb("log-device", verb, at("ended"), "--to", String(end), ...output));
  }
  expect(await good(original("wlog-show", "-head", at("ended.out")))).toContain(` lsid 0 ${end}\n`);
});
