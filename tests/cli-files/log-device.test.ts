/** @module Log devices as files: extracted, restored, replayed, checked; against the original's and by themselves. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { original, vector, vectors, walb } from "./tools.ts";

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "walb-log-device-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const at = (name: string): string => join(directory, name);

/** Expands an .xz of the vectors. */
function expanded(name: string, ...path: string[]): string {
  writeFileSync(at(name), execFileSync("xz", ["-dc", vector(...path)], { maxBuffer: 2 ** 30 }));
  return at(name);
}

const logs = ["p512-s1", "p4k-s11", "wrap512"];

describe.skipIf(vectors === undefined)("log devices of the original", () => {
  test("show their superblock and packs byte for byte", async () => {
    for (const name of ["fresh512", "fresh4k", ...logs]) {
      const image = expanded("log", "ldev", `${name}.img.xz`);
      const { out } = await original("wldev-info", image);
      expect(out).toBe(readFileSync(vector("ldev", `${name}.info.txt`), "utf8"));
      if (!logs.includes(name)) continue;
      expect((await original("wldev-show", image)).out).toBe(readFileSync(vector("ldev", `${name}.show.txt`), "utf8"));
    }
  });

  test("give the same wlog, around the ring end too", async () => {
    for (const name of logs) {
      const image = expanded("log", "ldev", `${name}.img.xz`);
      expect((await original("wlog-cat", "-o", at("wlog"), image)).code).toBe(0);
      // What padding holds is kept too, though nothing checks it.
      expect(readFileSync(at("wlog")).equals(readFileSync(vector("ldev", `${name}.cat.wlog`)))).toBe(true);
    }
  });

  test("give parts of the log", async () => {
    const image = expanded("log", "ldev", "p512-s1.img.xz");
    await original("wlog-cat", "-e", "114", "-o", at("a"), image);
    await original("wlog-cat", "-b", "114", "-o", at("b"), image);
    expect(readFileSync(at("a")).equals(readFileSync(vector("wlog/split-a.wlog")))).toBe(true);
    expect(readFileSync(at("b")).equals(readFileSync(vector("wlog/split-b.wlog")))).toBe(true);
  });

  test("are made again by restoring the wlog, block for block", async () => {
    for (const [name, wlog, pbs, shift] of [
      ["p512-s1", "p512-s1", "512", "0"],
      ["wrap512", "p512-s1", "512", "1988"],
      ["p4k-s11", "p4k-s11", "4096", "0"],
    ] as const) {
      rmSync(at("log"), { force: true });
      const format = ["--create", "1M", "--size", "1M", "--name", name, "--block-size", pbs];
      expect((await walb("log-device", "format", at("log"), ...format)).code).toBe(0);
      const input = vector("wlog", `${wlog}.wlog`);
      const ran = await walb("wlog", "restore", at("log"), "--input", input, "--shift", shift, "--verify");
      expect({ name, ...ran }).toMatchObject({ name, code: 0, err: "" });
      const want = readFileSync(expanded("want", "ldev", `${name}.img.xz`));
      const got = readFileSync(at("log"));
      // The original writes no second superblock.
      const pb = Number(pbs);
      want.fill(0, 4096 + pb, 4096 + 2 * pb);
      got.fill(0, 4096 + pb, 4096 + 2 * pb);
      expect(got.equals(want)).toBe(true);
    }
  });

  test("that the driver left after a crash are replayed to what the driver made of them", async () => {
    let compared = 0;
    for (const name of ["512", "4096", "wrap512"]) {
      if (!existsSync(vector("driver", `L9.${name}.crash.xz`))) continue;
      const log = expanded("log", "driver", `L9.${name}.crash.xz`);
      const data = expanded("data", "driver", `D9.${name}.base.xz`);
      const ran = await walb("log-device", "redo", log, data);
      expect({ name, ...ran }).toMatchObject({ name, code: 0 });
      expect(readFileSync(data).equals(readFileSync(expanded("want", "driver", `D9.${name}.final.xz`)))).toBe(true);
      compared += 1;
    }
    expect(compared).toBe(3);
  }, 300_000);
});

describe("a log device made here", () => {
  test("takes a wlog, is checked, gives it back, and is replayed", async () => {
    for (const pbs of ["512", "4096"]) {
      const generate = ["--seed", "7", "--size", "4M", "--log-size", "2M", "--block-size", pbs, "--max-discard", "64K"];
      await walb("wlog", "generate", ...generate, "-o", at("in.wlog"), "--overwrite");
      rmSync(at("log"), { force: true });
      await walb("log-device", "format", at("log"), "--create", "8M", "--size", "4M", "--block-size", pbs);
      expect((await walb("wlog", "restore", at("log"), "-i", at("in.wlog"), "--verify")).code).toBe(0);
      const check = await walb("log-device", "check", at("log"), "--json");
      expect(JSON.parse(check.out)).toMatchObject({ isTorn: false, oldestLsid: 0 });
      await walb("log-device", "export", at("log"), "-o", at("out.wlog"), "--overwrite");
      expect(await effect(at("out.wlog"))).toEqual(await effect(at("in.wlog")));
      // Every byte of the packs, also what padding holds; padding at the ring end would be more.
      const [input, output] = [readFileSync(at("in.wlog")), readFileSync(at("out.wlog"))];
      expect((await walb("wlog", "show", at("in.wlog"), "--packs")).out).toMatch(/ flags EP- /);
      expect(output.subarray(4096).equals(input.subarray(4096))).toBe(true);
      writeFileSync(at("data"), Buffer.alloc(4 * 1024 * 1024, 0xff));
      writeFileSync(at("image"), Buffer.alloc(4 * 1024 * 1024, 0xff));
      expect((await walb("log-device", "redo", at("log"), at("data"))).code).toBe(0);
      expect((await walb("wlog", "redo", at("image"), "-i", at("in.wlog"))).code).toBe(0);
      expect(readFileSync(at("data")).equals(readFileSync(at("image")))).toBe(true);
    }
  });

  test("whose last pack is torn is exported up to its first bad record, and checked as good", async () => {
    await walb(
      "wlog",
      "generate",
      "--seed",
      "3",
      "--size",
      "4M",
      "--log-size",
      "256K",
      "-o",
      at("in.wlog"),
      "--overwrite",
    );
    rmSync(at("log"), { force: true });
    await walb("log-device", "format", at("log"), "--create", "1M", "--size", "4M");
    await walb("wlog", "restore", at("log"), "-i", at("in.wlog"));
    const packs = (await walb("wlog", "show", at("in.wlog"), "--packs", "--json")).out.trim().split("\n");
    const last = packs.map((line) => JSON.parse(line)).findLast(({ type }) => type === "pack");
    const index = last.records.findLastIndex(({ kind }: { kind: string }) => kind === "data");
    expect(index).toBeGreaterThan(0);
    const log = readFileSync(at("log"));
    const offset = (10 + last.records[index].lsid) * 512;
    log[offset] = log[offset]! ^ 1;
    writeFileSync(at("log"), log);
    const check = await walb("log-device", "check", at("log"), "--json");
    expect(JSON.parse(check.out)).toMatchObject({ isTorn: true, endLsid: last.lsid });
    await walb("log-device", "export", at("log"), "-o", at("cut.wlog"), "--overwrite");
    const cut = (await walb("wlog", "verify", at("cut.wlog"), "--json")).out;
    expect(JSON.parse(cut)).toMatchObject({ isGood: true, packs: packs.length - 2 });
    const shown = (await walb("wlog", "show", at("cut.wlog"), "--packs", "--json")).out.trim().split("\n");
    const cutPack = shown.map((line) => JSON.parse(line)).findLast(({ type }) => type === "pack");
    expect(cutPack.records).toEqual(last.records.slice(0, index));
    await walb("log-device", "export", at("log"), "--whole-packs", "-o", at("whole.wlog"), "--overwrite");
    const whole = (await walb("wlog", "verify", at("whole.wlog"), "--json")).out;
    expect(JSON.parse(whole)).toMatchObject({ packs: packs.length - 3 });
  });

  test("is not formatted over data, and not restored over packs, unless that is asked for", async () => {
    writeFileSync(at("full"), Buffer.alloc(1024 * 1024, 1));
    expect(await walb("log-device", "format", at("full"), "--size", "1M")).toMatchObject({ code: 4 });
    expect(await walb("log-device", "format", at("full"), "--size", "1M", "--overwrite")).toMatchObject({ code: 0 });
    expect(await walb("log-device", "format", at("full"), "--create", "1M", "--size", "1M")).toMatchObject({ code: 4 });
    expect(await walb("log-device", "format", at("full"))).toMatchObject({ code: 2 });
  });

  test("with a damaged superblock or applied pack is damage: exit 5 with file, offset and field", async () => {
    await walb(
      "wlog",
      "generate",
      "--seed",
      "5",
      "--size",
      "4M",
      "--log-size",
      "256K",
      "-o",
      at("in.wlog"),
      "--overwrite",
    );
    rmSync(at("log"), { force: true });
    await walb("log-device", "format", at("log"), "--create", "1M", "--size", "4M");
    await walb("wlog", "restore", at("log"), "-i", at("in.wlog"));
    writeFileSync(at("data"), Buffer.alloc(4 * 1024 * 1024));
    await walb("log-device", "redo", at("log"), at("data"));
    copyFileSync(at("log"), at("bad"));
    const log = readFileSync(at("bad"));
    log[10 * 512 + 30] = log[10 * 512 + 30]! ^ 1;
    writeFileSync(at("bad"), log);
    for (const action of ["check", "export", "show"]) {
      const output = action === "export" ? ["-o", at("nothing")] : [];
      const { code, err } = await walb("log-device", action, at("bad"), ...output);
      expect({ action, code }).toEqual({ action, code: 5 });
      expect(err).toContain(`file ${at("bad")}, offset 5120, field checksum`);
    }
    expect(existsSync(at("nothing"))).toBe(false);
    log[4096 + 20] = log[4096 + 20]! ^ 1;
    writeFileSync(at("bad"), log);
    const { code, err } = await walb("log-device", "check", at("bad"));
    expect(code).toBe(5);
    expect(err).toContain("offset 4096, field checksum");
  });
});

/** What a wlog does: its packs, and the image it makes of 0xff bytes. */
async function effect(wlog: string): Promise<unknown> {
  const shown = (await walb("wlog", "show", wlog, "--packs")).out;
  writeFileSync(at("effect"), Buffer.alloc(4 * 1024 * 1024, 0xff));
  const { code } = await walb("wlog", "redo", at("effect"), "-i", wlog);
  return { code, shown, image: Bun.hash(readFileSync(at("effect"))) };
}
