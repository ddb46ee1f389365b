/** @module The one executable under the original's names: links, pipes, standard input and output, exit codes. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { originalToolNames } from "../../src/cli/original/index.ts";
import { vector, vectors } from "./tools.ts";

const root = join(import.meta.dir, "..", "..");
let directory = "";
let links = "";

beforeAll(() => {
  // Does nothing when it is up to date.
  execFileSync(process.execPath, ["run", join(root, "build.ts")], { cwd: root, stdio: "ignore" });
  directory = mkdtempSync(join(tmpdir(), "walb-binary-"));
  links = join(directory, "bin");
  mkdirSync(links);
  for (const name of [...originalToolNames, "walb"]) symlinkSync(join(root, "dist", "walb"), join(links, name));
}, 300_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Runs a line of the shell with the links in the path. */
function shell(line: string): { code: number | null; out: string; err: string } {
  const env = { ...process.env, PATH: `${links}:${process.env.PATH ?? ""}` };
  const ran = spawnSync("bash", ["-o", "pipefail", "-c", line], { cwd: directory, env, encoding: "utf8" });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}

const bytes = (name: string): Buffer => readFileSync(join(directory, name));

describe("links with the original's names", () => {
  test("are its tools: each tells its own usage", () => {
    for (const name of originalToolNames) {
      const { code, out } = shell(`${name} -h`);
      expect({ name, code }).toEqual({ name, code: 0 });
      expect(out).toContain(`usage:${name}`);
    }
  }, 300_000);

  test("are found in the path, by a whole path, and by argv[0]", () => {
    writeFileSync(join(directory, "zero"), Buffer.alloc(512));
    const want = { code: 0, out: "3989547400\n", err: "" };
    const salt = "-salt 0x12345678 zero";
    expect(shell(`checksum ${salt}`)).toEqual(want);
    expect(shell(`${links}/checksum ${salt}`)).toEqual(want);
    expect(shell(`exec -a /opt/walb/checksum ${links}/walb ${salt}`)).toEqual(want);
    expect(shell("walb version").out).toMatch(/\d/);
  });

  test("work in pipes as on files", () => {
    const made = shell(`
      set -e
      WALB_SEED=5 wlog-gen -z 4M -s 8M -maxDiscardSize 256K > a.wlog
      WALB_SEED=5 wlog-gen -z 4M -s 8M -maxDiscardSize 256K -o b.wlog
      cmp a.wlog b.wlog
      walb log-device format log --create 16M --size 8M --quiet > /dev/null
      wlog-restore --verify log < a.wlog > /dev/null
      for i in 1 2 3 4 5 6; do head -c 8388608 /dev/zero | tr '\\0' '\\377' > i$i; done
      wlog-redo -z i1 < a.wlog > /dev/null
      wlog-cat log | wlog-to-wdiff | wdiff-redo -z i2 > /dev/null
      wlog-to-wdiff -i a.wlog -o a.wdiff
      wdiff-redo -z -i a.wdiff i3 > /dev/null
      cat a.wlog | wlog-to-wdiff -indexed > x.wdiff
      wdiff-redo -z i4 < x.wdiff > /dev/null
      wdiff-merge -i x.wdiff a.wdiff | wdiff-redo -z i5 > /dev/null
      virt-full-cat -i i6 -d a.wdiff > v
      walb wlog cat log --quiet | walb wlog to-wdiff --quiet | walb wdiff redo i6 --quiet > /dev/null
    `);
    expect(made).toMatchObject({ code: 0 });
    for (const name of ["i2", "i3", "i4", "i5", "i6", "v"]) expect(bytes(name).equals(bytes("i1"))).toBe(true);
    expect(bytes("i1").equals(Buffer.alloc(8 << 20, 0xff))).toBe(false);
  }, 300_000);

  test("hash standard input like the file", () => {
    expect(shell("cat a.wlog | bhash").out).toBe(shell("bhash a.wlog").out);
    expect(shell("bhash < a.wlog").out).toBe(shell("bhash a.wlog").out);
    expect(shell("cat a.wlog | checksum -bulk 64K").out).toBe(shell("checksum -bulk 64K a.wlog").out);
    expect(
      shell("cat a.wlog | wdiff-full > full.wdiff && : > full && wdiff-redo -i full.wdiff full && cmp full a.wlog"),
    ).toMatchObject({ code: 0 });
  });

  test("end with 1 on damage, and walb with 5, also at the end of a pipe that breaks off", () => {
    expect(shell("head -c 1000000 a.wlog | wlog-to-wdiff > cut.wdiff").code).toBe(1);
    expect(shell("head -c 1000000 a.wlog | walb wlog to-wdiff > cut.wdiff").code).toBe(5);
    expect(shell("head -c 3000 a.wdiff | wdiff-redo i1").code).toBe(1);
    expect(shell("head -c 30000 x.wdiff | wdiff-redo i1")).toMatchObject({ code: 1 });
  });

  test("stop quietly when the reader of their text goes away", () => {
    const { out, err } = shell("wlog-show a.wlog | head -n 1; wdiff-show a.wdiff | head -n 1");
    expect(out.split("\n").length).toBe(3);
    expect(err).toBe("");
  });

  test.skipIf(vectors === undefined)("print the original's output", () => {
    const { out } = shell(`wlog-show < ${vector("wlog/p512-s1.wlog")}`);
    expect(out).toBe(readFileSync(vector("wlog/p512-s1.show.txt"), "utf8"));
    expect(shell(`bhash < ${vector("full/odd.img")}`).out).toBe(
      readFileSync(vector("misc/bhash-stdin-odd.txt"), "utf8"),
    );
    const pair = `cat ${vector("wlog/split-a.wlog")} ${vector("wlog/split-b.wlog")}`;
    shell(`${pair} | wlog-to-wdiff -o ab.wdiff`);
    const same = shell("truncate -s 1M f1 f2 && wdiff-redo -z -i ab.wdiff f1 > 1.txt");
    expect(same.code).toBe(0);
    expect(
      shell(`wdiff-redo -z -i ${vector("wdiff/split-ab.s.wdiff")} f2 > 2.txt && cmp f1 f2 && cmp 1.txt 2.txt`).code,
    ).toBe(0);
  });
});
