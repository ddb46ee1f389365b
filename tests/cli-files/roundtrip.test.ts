/** @module The tools against each other: every way from a log to an image ends in the same image. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { original, walb } from "./tools.ts";

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "walb-roundtrip-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const at = (name: string): string => join(directory, name);
const sizeBytes = 2 * 1024 * 1024;

async function good(...words: string[]): Promise<string> {
  const { code, out, err } = await walb(...words);
  expect({ words, code, err }).toEqual({ words, code: 0, err: "" });
  return out;
}

/** An image of 0xff bytes after `apply`. */
async function imageAfter(apply: (image: string) => Promise<unknown>): Promise<Buffer> {
  writeFileSync(at("image"), Buffer.alloc(sizeBytes, 0xff));
  await apply(at("image"));
  return readFileSync(at("image"));
}

describe("a generated log", () => {
  for (const [seed, pbs, maxIo] of [
    ["1", "512", "0"],
    ["2", "4096", "16K"],
    ["3", "1024", "4K"],
    ["4", "512", "1M"],
  ] as const) {
    test(`of ${pbs}-byte blocks is the same image in every way, records up to ${maxIo}`, async () => {
      const [wlog, sorted, indexed, merged] = [at("a.wlog"), at("s.wdiff"), at("i.wdiff"), at("m.wdiff")];
      const size = ["--size", "2M", "--log-size", "1M", "--max-discard", "128K"];
      await good("wlog", "generate", "--seed", seed, ...size, "--block-size", pbs, "-o", wlog, "--overwrite");
      const convert = ["wlog", "to-wdiff", "-i", wlog, "--max-io", maxIo, "--overwrite"];
      await good(...convert, "-o", sorted);
      await good(...convert, "--indexed", "--compress", "zstd:3", "-o", indexed);
      const expected = await imageAfter((image) => good("wlog", "redo", image, "-i", wlog));
      for (const diff of [sorted, indexed]) {
        expect((await imageAfter((image) => good("wdiff", "redo", image, diff))).equals(expected)).toBe(true);
        const text = await good("wdiff", "show", diff, "--check", "--json");
        expect(JSON.parse(text.trim().split("\n").at(-1)!)).toMatchObject({ type: "counts", files: 1 });
      }
      for (const flags of [[], ["--recompress", "--compress", "lz4"], ["--max-io", "8K"]]) {
        await good("wdiff", "merge", indexed, sorted, ...flags, "-o", merged, "--overwrite");
        expect((await imageAfter((image) => good("wdiff", "redo", image, merged))).equals(expected)).toBe(true);
      }
      writeFileSync(at("base"), Buffer.alloc(sizeBytes, 0xff));
      await good("image", "cat", at("base"), indexed, "-o", at("cat"), "--overwrite");
      expect(readFileSync(at("cat")).equals(expected)).toBe(true);
      await good("wdiff", "dump", sorted, "--address", "0", "--blocks", "4096", "-o", at("dump"), "--overwrite");
      const onZero = await imageAfter(async (image) => {
        writeFileSync(image, Buffer.alloc(sizeBytes));
        await good("wdiff", "redo", image, sorted);
      });
      expect(readFileSync(at("dump")).equals(onZero)).toBe(true);
    }, 300_000);
  }

  test("that begins beyond 2^53 is told, redone, converted and continued exactly", async () => {
    const begin = 2n ** 64n - 2n - 2n ** 22n;
    const generate = [
      "wlog",
      "generate",
      "--seed",
      "4",
      "--size",
      "2M",
      "--log-size",
      "200K",
      "--max-io",
      "8K",
      "--overwrite",
    ];
    await good(...generate, "--lsid", "0", "-o", at("near"));
    await good(...generate, "--lsid", String(begin), "-o", at("far"));
    const packs = async (name: string, ...flags: string[]): Promise<{ lsid: bigint; records: bigint[] }[]> => {
      const text = await good("wlog", "show", at(name), "--packs", "--json", ...flags);
      return text
        .trim()
        .split("\n")
        .filter((line) => line.includes('"type":"pack"'))
        .map((line) => {
          const [lsid, ...records] = [...line.matchAll(/"lsid":(\d+)/g)].map((match) => BigInt(match[1]!));
          return { lsid: lsid!, records };
        });
    };
    const moved = (await packs("near")).map(({ lsid, records }) => ({
      lsid: lsid + begin,
      records: records.map((record) => record + begin),
    }));
    expect(await packs("far")).toEqual(moved);
    expect(moved.length).toBeGreaterThan(3);
    const middle = moved[2]!.lsid;
    expect(await packs("far", "--from", String(middle))).toEqual(moved.slice(2));
    expect(await packs("far", "--to", String(middle))).toEqual(moved.slice(0, 2));
    const shown = (await original("wlog-show", at("far"))).out;
    expect(shown).toContain(` lsid ${begin} 18446744073709551615\n`);
    expect(shown).toContain(`wlog_p: lsid ${middle} `);
    expect((await original("wlog-show", "-b", String(middle), "-stat", at("far"))).out).toContain(`bgnLsid ${begin}\n`);
    const redone = await imageAfter((image) => good("wlog", "redo", image, "-i", at("far")));
    expect(redone.equals(await imageAfter((image) => good("wlog", "redo", image, "-i", at("near"))))).toBe(true);
    const converted = await good("wlog", "to-wdiff", "-i", at("far"), "-o", at("far.wdiff"), "--overwrite", "--json");
    expect(converted).toContain(`"beginLsid":${begin},"endLsid":184467440`);
    await good("wlog", "to-wdiff", "-i", at("near"), "-o", at("near.wdiff"), "--overwrite");
    const records = async (name: string) => (await good("wdiff", "show", at(name), "--records")).split("\n").slice(5);
    expect(await records("far.wdiff")).toEqual(await records("near.wdiff"));
    expect(await good("wlog", "verify", at("far"))).toContain("good");

    rmSync(at("log"), { force: true });
    await good("log-device", "format", at("log"), "--create", "2M", "--size", "2M");
    const refused = await walb("wlog", "restore", at("log"), "-i", at("far"), "--shift", String(2n ** 22n));
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining(`would end at lsid 184467440737095`)]);
    await good("wlog", "restore", at("log"), "-i", at("far"), "--shift", String(-begin));
    await good("log-device", "export", at("log"), "-o", at("back"), "--overwrite");
    expect(
      readFileSync(at("back"))
        .subarray(4096)
        .equals(readFileSync(at("near")).subarray(4096)),
    ).toBe(true);
  }, 300_000);

  test("that is long and of large writes is redone as it is read, to the same image", async () => {
    const generate = ["wlog", "generate", "--seed", "8", "--size", "32M", "--log-size", "66M", "--max-discard", "256K"];
    await good(...generate, "--min-io", "64K", "--max-io", "256K", "-o", at("long.wlog"));
    await good("wlog", "to-wdiff", "-i", at("long.wlog"), "-o", at("long.wdiff"));
    for (const name of ["redone", "applied"]) writeFileSync(at(name), Buffer.alloc(32 * 1024 * 1024, 7));
    await good("wlog", "redo", at("redone"), "-i", at("long.wlog"));
    await good("wdiff", "redo", at("applied"), at("long.wdiff"));
    expect(readFileSync(at("redone")).equals(readFileSync(at("applied")))).toBe(true);
    for (const name of ["long.wlog", "long.wdiff", "redone", "applied"]) rmSync(at(name));
  }, 300_000);

  test("read as an image keeps its holes", async () => {
    const image = Buffer.alloc(4 * 1024 * 1024);
    for (const offset of [0, 16 * 1024, 1024 * 1024 + 40 * 1024, 3 * 1024 * 1024 - 1]) image[offset] = 1;
    writeFileSync(at("base"), image);
    await good("image", "cat", at("base"), "-o", at("sparse"), "--overwrite");
    expect(readFileSync(at("sparse")).equals(image)).toBe(true);
    expect(statSync(at("sparse")).blocks * 512).toBeLessThan(200 * 1024);
  });

  test("as a diff of the full image is the image", async () => {
    const image = Buffer.alloc(300 * 1024);
    for (let i = 0; i < image.length; i += 7) image[i] = i % 65536 < 32768 ? i : 0;
    writeFileSync(at("full"), image);
    for (const kind of [[], ["--indexed"]]) {
      await good("wdiff", "from-image", at("full"), ...kind, "-o", at("full.wdiff"), "--overwrite");
      const made = await imageAfter((path) => good("wdiff", "redo", path, at("full.wdiff")));
      expect(made.subarray(0, image.length).equals(image)).toBe(true);
    }
    expect((await walb("image", "diff", at("full"), at("full"))).code).toBe(0);
    image[1000] = image[1000]! ^ 1;
    writeFileSync(at("other"), image);
    const { code, out } = await walb("image", "diff", at("full"), at("other"), "--blocks");
    expect({ code, out }).toEqual({ code: 1, out: "block 1 differs\n1 of 600 blocks differ\n" });
  });

  test("in two wlogs that continue each other converts as one, and with a gap is refused", async () => {
    await good("wlog", "generate", "--seed", "9", "--size", "2M", "--log-size", "512K", "-o", at("all"), "--overwrite");
    rmSync(at("log"), { force: true });
    await good("log-device", "format", at("log"), "--create", "2M", "--size", "2M");
    await good("wlog", "restore", at("log"), "-i", at("all"));
    const packs = (await good("wlog", "show", at("all"), "--packs", "--json")).trim().split("\n");
    const lsids = packs.map((line) => JSON.parse(line)).filter(({ type }) => type === "pack");
    const middle = String(lsids[lsids.length >> 1].lsid);
    const late = String(lsids[(lsids.length >> 1) + 1].lsid);
    await good("log-device", "export", at("log"), "--to", middle, "-o", at("a"), "--overwrite");
    await good("wlog", "cat", at("log"), "--from", middle, "-o", at("b"), "--overwrite");
    await good("wlog", "cat", at("log"), "--from", late, "-o", at("c"), "--overwrite");
    writeFileSync(at("ab"), Buffer.concat([readFileSync(at("a")), readFileSync(at("b"))]));
    writeFileSync(at("ac"), Buffer.concat([readFileSync(at("a")), readFileSync(at("c"))]));
    const expected = await imageAfter((image) => good("wlog", "redo", image, "-i", at("all")));
    expect((await imageAfter((image) => good("wlog", "redo", image, "-i", at("ab")))).equals(expected)).toBe(true);
    await good("wlog", "to-wdiff", "-i", at("ab"), "-o", at("ab.wdiff"), "--overwrite");
    const ofDiff = await imageAfter((image) => good("wdiff", "redo", image, at("ab.wdiff")));
    expect(ofDiff.equals(expected)).toBe(true);
    expect((await walb("wlog", "to-wdiff", "-i", at("ac"), "-o", at("ac.wdiff"))).code).toBe(5);
  });
});

describe("recipes", () => {
  test("find every write in the wlog and in the log device, and tell what differs", async () => {
    await good(
      "wlog",
      "generate",
      "--seed",
      "11",
      "--log-size",
      "128K",
      "--size",
      "2M",
      "-o",
      at("r.wlog"),
      "--overwrite",
    );
    const shown = (await good("wlog", "show", at("r.wlog"), "--packs", "--json")).trim().split("\n");
    const [header, ...rest] = shown.map((line) => JSON.parse(line));
    const writes: { offsetLb: number; sizeLb: number; checksum: number }[] = rest
      .filter(({ type }) => type === "pack")
      .flatMap(({ records }) => records.filter(({ kind }: { kind: string }) => kind === "data"));
    const recipe = writes.map(
      ({ offsetLb, sizeLb, checksum }) => `${offsetLb} ${sizeLb} ${((checksum + header.salt) >>> 0).toString(16)}`,
    );
    writeFileSync(at("recipe"), `${recipe.join("\n")}\n`);
    const wlog = ["-w", at("r.wlog")];
    expect(await original("verify_wlog", "-r", at("recipe"), ...wlog)).toEqual({ code: 0, out: "", err: "" });
    rmSync(at("log"), { force: true });
    await good("log-device", "format", at("log"), "--create", "2M", "--size", "2M");
    await good("wlog", "restore", at("log"), "-i", at("r.wlog"));
    expect(await original("verify_wldev", "-r", at("recipe"), at("log"))).toEqual({ code: 0, out: "", err: "" });
    writeFileSync(at("recipe"), `${recipe.slice(0, -1).join("\n")}\n1 1 0\n2 2 0\n`);
    const { code, out } = await original("verify_wlog", "-r", at("recipe"), ...wlog);
    expect(code).toBe(1);
    expect(out.trim().split("\n").length).toBe(2);
  });
});
