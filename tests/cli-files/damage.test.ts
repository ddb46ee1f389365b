/** @module Damaged input and wrong command lines: what is refused, and how it is told. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sealBlock } from "../../src/log/checksum.ts";
import { encodeEndBlock, encodePackHeader } from "../../src/log/pack.ts";
import { encodeWlogHeader } from "../../src/log/wlogheader.ts";
import { original, vector, vectors, walb } from "./tools.ts";

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "walb-damage-"));
});
beforeEach(() => rmSync(at("out"), { force: true }));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const at = (name: string): string => join(directory, name);

/** Where we refuse what the original takes: damage is never taken for the end of a file. */
const stricter = new Set([
  "wlog-show wlog-pack.wlog",
  "wlog-redo wlog-pack.wlog",
  "wlog-show wlog-io.wlog",
  "wdiff-redo s-noend.wdiff",
  "wdiff-merge s-noend.wdiff",
]);

describe.skipIf(vectors === undefined)("the original's damaged files", () => {
  test("end its tools as the original ended, or where it went on, with an error", async () => {
    const files: Record<string, { results: { cmd: string; rc: number; stdout: string }[] }> = JSON.parse(
      readFileSync(vector("corrupt/results.json"), "utf8"),
    );
    const refused: string[] = [];
    for (const [file, { results }] of Object.entries(files)) {
      for (const { cmd, rc, stdout } of results) {
        writeFileSync(at("img"), Buffer.alloc(1 << 20));
        rmSync(at("out"), { force: true });
        const line = cmd
          .replace(/ img\b/, ` ${at("img")}`)
          .replace("-o out", `-o ${at("out")}`)
          .replace(/ < (\S+)/, " -i $1")
          .replace(/corrupt\//, `${vector("corrupt")}/`);
        const [name, ...words] = line.split(/\s+/);
        const ran = await original(name!, ...words);
        if (ran.code !== rc) refused.push(`${name} ${file}`);
        // Nobody takes a part of an output for the whole.
        if (ran.code !== 0) expect({ cmd, isThere: existsSync(at("out")) }).toEqual({ cmd, isThere: false });
        if (name === "wdiff-show") expect({ cmd, out: ran.out }).toEqual({ cmd, out: stdout });
        if (ran.code !== 0 && ran.err !== "") expect(ran.err).toMatch(/^[\d-]{10} [\d:.]{12} ERROR /m);
      }
    }
    expect(refused.sort()).toEqual([...stricter].sort());
  });

  test("are exit 5 with file, offset and field", async () => {
    for (const name of readdirSync(vector("corrupt")).filter((file) => /\.(wlog|wdiff)$/.test(file))) {
      const file = vector("corrupt", name);
      const show = name.endsWith(".wlog") ? ["wlog", "verify", file] : ["wdiff", "show", "--check", file];
      const shown = await walb(...show);
      expect({ name, code: shown.code }).toEqual({ name, code: 5 });
      expect(shown.out + shown.err).toContain(`file ${file}`);
      writeFileSync(at("img"), Buffer.alloc(1 << 20));
      const redo = name.endsWith(".wlog")
        ? ["wlog", "redo", at("img"), "-i", file]
        : ["wdiff", "redo", at("img"), file];
      const ran = await walb(...redo, "--json");
      expect({ name, code: ran.code }).toEqual({ name, code: 5 });
      const { error } = JSON.parse(ran.err) as { error: { where: Record<string, unknown> } };
      expect(error.where.file).toBe(file);
      if (name !== "wlog-empty.wlog") expect(error.where.offsetBytes).toBeNumber();
    }
  }, 300_000);
});

describe("a wlog that was cut off between two packs", () => {
  test("is damage, unless what is there is asked for", async () => {
    await walb("wlog", "generate", "--seed", "1", "-o", at("whole.wlog"), "--overwrite");
    const whole = readFileSync(at("whole.wlog"));
    writeFileSync(at("cut.wlog"), whole.subarray(0, whole.length - 512));
    for (const words of [
      ["wlog", "show", at("cut.wlog")],
      ["wlog", "verify", at("cut.wlog")],
      ["wlog", "to-wdiff", "-i", at("cut.wlog"), "-o", at("out"), "--overwrite"],
    ]) {
      const { code, err } = await walb(...words);
      expect({ words, code }).toEqual({ words, code: 5 });
      expect(err).toContain("without its end block");
      expect(await walb(...words, "--lenient")).toMatchObject({ code: 0 });
    }
  });

  test("and every other wlog that is cut anywhere is damage", async () => {
    await walb("wlog", "generate", "--seed", "2", "--log-size", "64K", "-o", at("whole.wlog"), "--overwrite");
    const whole = readFileSync(at("whole.wlog"));
    for (const sizeBytes of [0, 1, 4095, 4096, 4097, 5000, 9999, whole.length - 513, whole.length - 1]) {
      writeFileSync(at("cut.wlog"), whole.subarray(0, sizeBytes));
      expect({ sizeBytes, ...(await walb("wlog", "verify", at("cut.wlog"))) }).toMatchObject({ sizeBytes, code: 5 });
    }
  });
});

describe("addresses that no volume has", () => {
  const pbsBytes = 512;
  const salt = 7;
  const wlog = (offsetLb: number, sizeLb: number): Uint8Array => {
    const record = { kind: "discard", checksum: 0, offsetLb, sizeLb, lsid: 1 } as const;
    return Buffer.concat([
      encodeWlogHeader({ pbsBytes, salt, uuid: "0".repeat(32), beginLsid: 0, endLsid: undefined }),
      encodePackHeader({ lsid: 0, totalDataPb: 0, records: [record] }, pbsBytes, salt),
      encodeEndBlock(pbsBytes, salt),
    ]);
  };

  test("are refused naming log, pack and record, and no diff is left that nobody could read", async () => {
    for (const offsetLb of [2 ** 44 - 4, 2 ** 44, 2 ** 52, 2 ** 53 - 1]) {
      writeFileSync(at("far.wlog"), wlog(offsetLb, 4));
      for (const kind of [[], ["--indexed"]]) {
        const words = ["wlog", "to-wdiff", "-i", at("far.wlog"), "-o", at("out"), "--json", ...kind];
        const { code, err } = await walb(...words);
        expect({ words, code, isThere: existsSync(at("out")) }).toEqual({ words, code: 1, isThere: false });
        const { error } = JSON.parse(err) as { error: { code: string; where: Record<string, unknown> } };
        expect(error.code).toBe("out-of-range");
        expect(error.where).toEqual({ file: at("far.wlog"), offsetBytes: 4096, field: "record[0].offset" });
      }
    }
  });

  test("begin behind the last one that is converted, read and merged", async () => {
    writeFileSync(at("far.wlog"), wlog(2 ** 44 - 5, 4));
    for (const kind of [[], ["--indexed"]]) {
      rmSync(at("out"), { force: true });
      expect(await walb("wlog", "to-wdiff", "-i", at("far.wlog"), "-o", at("out"), ...kind)).toMatchObject({ code: 0 });
      expect(await walb("wdiff", "verify", at("out"))).toMatchObject({ code: 0 });
      expect((await original("wdiff-show", at("out"))).out).toContain("17592186044411");
    }
  });

  test("are told to the last digit", async () => {
    writeFileSync(at("far.wlog"), wlog(8, 4));
    await walb("wlog", "to-wdiff", "-i", at("far.wlog"), "-o", at("out"));
    const bytes = readFileSync(at("out"));
    bytes.writeBigUInt64LE(2n ** 63n + 1n, 32 + 16);
    sealBlock(bytes.subarray(32, 32 + 4096), 0, 0);
    writeFileSync(at("out"), bytes);
    expect((await walb("wdiff", "verify", at("out"))).err).toContain("9223372036854775809");
  });
});

describe("records of one image", () => {
  test("that say different checksums of it are not taken for checked together", async () => {
    await walb("wlog", "generate", "--seed", "5", "--max-io", "16K", "-o", at("slices.wlog"), "--overwrite");
    const convert = ["wlog", "to-wdiff", "--indexed", "--max-io", "4K", "-i", at("slices.wlog"), "-o", at("out")];
    expect(await walb(...convert)).toMatchObject({ code: 0 });
    expect(await walb("wdiff", "show", "--check", at("out"))).toMatchObject({ code: 0 });
    const bytes = readFileSync(at("out"));
    const superAt = bytes.length - 24;
    const images = new Set<bigint>();
    for (let record = Number(bytes.readBigUInt64LE(superAt)); record < superAt; record += 48) {
      const hasData = bytes.readUInt32LE(record + 24) > 0;
      const image = bytes.readBigUInt64LE(record + 16);
      if (hasData && images.has(image)) {
        bytes[record + 40]! ^= 1;
        sealBlock(bytes.subarray(record, record + 48), 44, 0);
        break;
      }
      if (hasData) images.add(image);
    }
    writeFileSync(at("out"), bytes);
    expect(await walb("wdiff", "show", "--check", at("out"))).toMatchObject({ code: 5 });
    expect((await original("wdiff-show", "-csum", at("out"))).code).toBe(1);
  });
});

describe("outputs", () => {
  test("are never replaced unasked, and stay as they were when the work fails", async () => {
    await walb("wlog", "generate", "--seed", "1", "-o", at("in.wlog"), "--overwrite");
    writeFileSync(at("out"), "precious");
    const ran = await walb("wlog", "to-wdiff", "-i", at("in.wlog"), "-o", at("out"));
    expect(ran.code).toBe(4);
    expect(ran.err).toContain("--overwrite");
    const bytes = readFileSync(at("in.wlog"));
    bytes[bytes.length >> 1] = bytes[bytes.length >> 1]! ^ 1;
    bytes.fill(0, 4096, 4200);
    writeFileSync(at("bad.wlog"), bytes);
    expect((await walb("wlog", "to-wdiff", "-i", at("bad.wlog"), "-o", at("out"), "--overwrite")).code).toBe(5);
    expect(readFileSync(at("out"), "utf8")).toBe("precious");
    expect(readdirSync(directory).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("that exist are replaced when asked", async () => {
    writeFileSync(at("out"), "old");
    expect((await walb("wlog", "generate", "--seed", "1", "-o", at("out"), "--overwrite")).code).toBe(0);
    expect(readFileSync(at("out")).length).toBeGreaterThan(1 << 20);
  });
});

describe("command lines", () => {
  test("of the original's tools that are wrong print OptionError and usage, and end with 1", async () => {
    const wrong: [string, ...string[]][] = [
      ["wlog-show", "-nothing"],
      ["wlog-show", "a", "b"],
      ["wlog-redo"],
      ["wlog-redo", "-i"],
      ["wdiff-merge", "-o", "x"],
      ["wlog-to-wdiff", "-x", "1t"],
      ["wlog-to-wdiff", "-x", "99999999999999999999G"],
      ["checksum", "-salt", "0xg"],
    ];
    for (const [name, ...words] of wrong) {
      const { code, out, err } = await original(name, ...words);
      expect({ name, words, code, err }).toEqual({ name, words, code: 1, err: "" });
      expect(out).toMatch(new RegExp(`^OptionError:.*\n[\\s\\S]*usage:${name}`));
    }
    expect((await original("wdevc-thing".replace("wdevc-thing", "wdiff-show"), "x", "y")).code).toBe(1);
  });

  test("of the original's tools show usage with -h", async () => {
    for (const name of ["wlog-show", "wdiff-merge", "bdiff", "wcmpr", "verify_wldev"]) {
      const { code, out, err } = await original(name, "-h");
      expect({ name, code, err }).toEqual({ name, code: 0, err: "" });
      expect(out).toContain(`usage:${name}`);
    }
  });

  test("with sizes take k for 1000 and K for 1024, decimal and hex", async () => {
    writeFileSync(at("img"), Buffer.alloc(8192, 1));
    const lines = async (bulk: string): Promise<number> =>
      (await original("checksum", "-bulk", bulk, at("img"))).out.trim().split("\n").length;
    expect(await lines("1K")).toBe(8);
    expect(await lines("1k")).toBe(9);
    expect(await lines("0x400")).toBe(8);
  });

  test("of walb that are wrong are exit 2", async () => {
    for (const words of [
      ["wlog", "redo"],
      ["wlog", "show", "--nothing"],
      ["wdiff", "merge"],
      ["wdiff", "dump", "x", "--address", "1"],
      ["wlog", "to-wdiff", "--max-io", "1000"],
      ["wlog", "to-wdiff", "--compress", "zip"],
      ["image", "diff", "a"],
      ["wdiff", "name", "1"],
      ["image", "hash", directory],
    ]) {
      expect({ words, code: (await walb(...words)).code }).toEqual({ words, code: 2 });
    }
  });

  test("that name files which are not there are exit 1 and name the file", async () => {
    const { code, err } = await walb("wlog", "show", at("nowhere"));
    expect(code).toBe(1);
    expect(err).toContain(at("nowhere"));
  });
});

test("24 zero bytes, which the original leaves of an indexed diff without IO, are told for what they are", async () => {
  writeFileSync(at("zeroes"), Buffer.alloc(24));
  for (const words of [["show"], ["merge", "-o", at("none")], ["verify"]]) {
    const [verb, ...rest] = words as [string, ...string[]];
    const { code, out, err } = await walb("wdiff", verb, at("zeroes"), ...rest);
    expect({ verb, code, text: out + err }).toEqual({ verb, code: 5, text: expect.stringContaining("24 zero bytes") });
  }
  expect((await walb("wdiff", "verify", "--lenient", at("zeroes"))).code).toBe(0);
});
