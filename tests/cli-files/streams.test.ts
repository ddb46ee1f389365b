/** @module The file tools in pipes: every input may be one, and nothing but data goes where data goes. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { originalToolNames } from "../../src/cli/original/index.ts";

const root = join(import.meta.dir, "..", "..");
let directory = "";
let links = "";

beforeAll(() => {
  // Does nothing when it is up to date.
  execFileSync(process.execPath, ["run", join(root, "build.ts")], { cwd: root, stdio: "ignore" });
  directory = mkdtempSync(join(tmpdir(), "walb-streams-"));
  links = join(directory, "bin");
  mkdirSync(links);
  mkdirSync(join(directory, "spool"));
  for (const name of [...originalToolNames, "walb"]) symlinkSync(join(root, "dist", "walb"), join(links, name));
  const made = shell(`
    set -e
    for n in 1 2 3; do
      walb wlog generate --quiet --seed $n --size 2M --log-size 300K --max-discard 64K -o $n.wlog > made
      walb wlog to-wdiff --quiet -i $n.wlog -o $n.s.wdiff > made
      walb wlog to-wdiff --quiet --indexed -i $n.wlog -o $n.i.wdiff > made
    done
    head -c 2097152 /dev/zero | tr '\\0' '\\125' > base
    cp base image
    walb wdiff redo --quiet image 1.s.wdiff 2.i.wdiff 3.s.wdiff > made
    walb wdiff merge --quiet 1.s.wdiff 2.i.wdiff 3.s.wdiff -o merged > made
    walb log-device format log --create 4M --size 2M --quiet > made
    walb wlog restore --quiet log -i 1.wlog > made
  `);
  expect(made).toEqual({ code: 0, out: "", err: "" });
}, 300_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Runs a line of the shell with the links in the path. */
function shell(line: string): { code: number | null; out: string; err: string } {
  const env = { ...process.env, PATH: `${links}:${process.env.PATH ?? ""}`, TMPDIR: join(directory, "spool") };
  const ran = spawnSync("bash", ["-o", "pipefail", "-c", line], { cwd: directory, env, encoding: "utf8" });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}

const nothing = { code: 0, out: "", err: "" };

describe("an input that is a pipe", () => {
  const cases: Record<string, string> = {
    "merge of sorted and indexed diffs, several at once":
      "walb wdiff merge -q <(cat 1.s.wdiff) <(cat 2.i.wdiff) 3.s.wdiff | cmp - merged",
    "merge of standard input": "cat 2.i.wdiff | walb wdiff merge -q 1.s.wdiff - 3.s.wdiff | cmp - merged",
    "merge of standard input that is a file": "walb wdiff merge -q 1.s.wdiff - 3.s.wdiff < 2.i.wdiff | cmp - merged",
    "merge of a fifo": "mkfifo f; cat 2.i.wdiff > f & walb wdiff merge -q 1.s.wdiff f 3.s.wdiff | cmp - merged",
    "redo of an indexed diff from standard input":
      "cp base a; cp base b; cat 1.i.wdiff | walb wdiff redo -q a > out; walb wdiff redo -q b 1.s.wdiff > out; cmp a b",
    "redo of several": "cp base a; walb wdiff redo -q a <(cat 1.s.wdiff) 2.i.wdiff <(cat 3.s.wdiff) > out; cmp a image",
    "show of an indexed diff":
      "cmp <(cat 1.i.wdiff | walb wdiff show - --records --check) <(walb wdiff show 1.i.wdiff --records --check)",
    "show of a sorted diff": "cmp <(walb wdiff show <(cat 1.s.wdiff) --records) <(walb wdiff show 1.s.wdiff --records)",
    "dump of a diff": `
      walb wdiff dump <(cat 1.i.wdiff) --address 0 --blocks 4096 -o a -q --overwrite > out
      walb wdiff dump 1.s.wdiff --address 0 --blocks 4096 -q | cmp - a`,
    "cat of an image with base and diffs from pipes":
      "cat base | walb image cat - <(cat 1.i.wdiff) 2.i.wdiff <(cat 3.s.wdiff) -q | cmp - image",
    wlogs: `
      cp base a; cp base b; cat 1.wlog | walb wlog redo a -q > out; walb wlog redo b -i <(cat 1.wlog) -q > out; cmp a b
      cmp <(walb wlog to-wdiff -q -i <(cat 1.wlog)) <(cat 1.wlog | walb wlog to-wdiff -q)
      walb wlog verify <(cat 1.wlog) > out; cat 1.wlog | walb wlog show > out; walb wlog analyze <(cat 1.wlog) > out`,
    "a log device that is unpacked on the way": `
      cmp <(gzip < log | gunzip | walb log-device show - --packs) <(walb log-device show log --packs)
      walb log-device check <(cat log) > out; walb wlog cat <(cat log) -q | cmp - <(walb wlog cat log -q)`,
    images: `
      walb image hash <(cat base) > a; walb image hash base | cmp - a
      walb image diff <(cat base) base > out; cat base | walb image checksum - > a; walb image checksum base | cmp - a
      cmp <(cat base | walb wdiff from-image -q) <(walb wdiff from-image base -q)`,
    "the original's names": `
      wdiff-merge -i <(cat 1.s.wdiff) <(cat 2.i.wdiff) -o a; wdiff-merge -i 1.s.wdiff 2.i.wdiff | cmp - a
      cmp <(wdiff-show -stat <(cat 1.i.wdiff)) <(wdiff-show -stat 1.i.wdiff)
      virt-full-cat -i <(cat base) -d <(cat 1.i.wdiff) 2.i.wdiff <(cat 3.s.wdiff) | cmp - image
      wdiff-dump 0 4096 <(cat 1.s.wdiff) a 2> out; wdiff-dump 0 4096 1.s.wdiff /dev/stdout 2> out | cmp - a
      cp base a; wdiff-redo -z -i <(cat 1.i.wdiff) a > out; cp base b; wdiff-redo -z b < 1.i.wdiff > out; cmp a b
      wlog-show -stat <(cat 1.wlog) | cmp - <(wlog-show -stat 1.wlog); wlog-analyze <(cat 1.wlog) > out
      wldev-info <(cat log) | cmp - <(wldev-info log); wldev-show - < log | cmp - <(wldev-show log)
      bdiff <(cat base) base > out; bhash <(cat base) | cmp - <(bhash base); checksum <(cat base) | cmp - <(checksum base)
      wdiff-full -i <(cat base) | cmp - <(wdiff-full < base); wcmpr <(cat base) - | wcmpr -d <(cat -) - | cmp - base`,
  };
  for (const [name, line] of Object.entries(cases)) {
    test(`is taken as the file is: ${name}`, () => {
      expect(shell(`set -e\n${line}`)).toEqual(nothing);
    }, 300_000);
  }

  test("is refused naming the pipe where it holds no diff, without being stored", () => {
    const { code, err } = shell("walb wdiff merge -q 1.s.wdiff <(cat /dev/zero) -o no");
    expect([code, existsSync(join(directory, "no"))]).toEqual([5, false]);
    expect(err).toMatch(/file \/dev\/fd\/\d+.* field version/);
  }, 300_000);

  test("is refused where it holds no log device, however long it is", () => {
    for (const line of [
      "walb log-device show /dev/zero",
      "walb log-device check <(cat /dev/zero)",
      "wldev-info /dev/zero",
    ]) {
      const { code, err } = shell(line);
      expect([code, err]).toEqual([line.startsWith("walb") ? 5 : 1, expect.stringContaining("superblock")]);
    }
    const endless = shell("walb image cat /dev/zero -o no");
    expect([endless.code, endless.err]).toEqual([2, expect.stringContaining("never ends")]);
  }, 300_000);

  test("is damage where it breaks off, naming the pipe", () => {
    const { code, err } = shell("head -c 20000 1.i.wdiff | walb wdiff merge -q 2.s.wdiff - -o no");
    expect(code).toBe(5);
    expect(err).toContain("file standard input");
    expect(shell("head -c 20000 1.s.wdiff | wdiff-merge -i - -o no").code).toBe(1);
  }, 300_000);

  test("leaves nothing of itself behind", () => {
    expect(readdirSync(join(directory, "spool"))).toEqual([]);
  });
});

describe("an output", () => {
  for (const [name, to] of Object.entries({
    "standard output": "",
    "/dev/stdout": "-o /dev/stdout",
    "a descriptor": "-o /dev/fd/1",
  })) {
    test(`that is ${name} has the data alone, what is said goes to standard error`, () => {
      const { code, out, err } = shell(`walb wdiff merge 1.s.wdiff 2.i.wdiff 3.s.wdiff ${to} | cmp - merged`);
      expect({ code, out }).toEqual({ code: 0, out: "" });
      expect(err).toContain("merged 3 diffs");
      const json = shell(`walb wdiff merge 1.s.wdiff 2.i.wdiff 3.s.wdiff ${to} --json 2>&1 >/dev/null`);
      expect(JSON.parse(json.out)).toMatchObject({ input: { files: 3 } });
    }, 300_000);
  }

  test("that is /dev/stdout goes into the file it leads to, and leaves /dev/stdout what it is", () => {
    const before = statSync("/dev/null").ino;
    const line = `
      walb wdiff merge -q 1.s.wdiff 2.i.wdiff 3.s.wdiff -o /dev/stdout > a; cmp a merged
      (echo head; wdiff-merge -i 1.s.wdiff 2.i.wdiff -o /dev/stdout) > a; head -1 a; test -L /dev/stdout
      wlog-to-wdiff -i 1.wlog -o /dev/stdout 2>/dev/null > a; cmp a <(wlog-to-wdiff < 1.wlog 2>/dev/null)`;
    expect(shell(`set -e\n${line}`)).toEqual({ code: 0, out: "head\n", err: "" });
    expect(statSync("/dev/null").ino).toBe(before);
  }, 300_000);

  test("that is a symbolic link replaces what the link leads to, not the link", () => {
    const line = `
      mkdir -p far; echo old > far/target; ln -sf far/target link
      walb wdiff merge -q 1.s.wdiff 2.i.wdiff 3.s.wdiff -o link --overwrite > out; cmp far/target merged; test -L link
      ls -A far`;
    expect(shell(`set -e\n${line}`)).toEqual({ code: 0, out: "target\n", err: "" });
  }, 300_000);
});

test("readers that go away end a tool with an error, and what was begun is not left", () => {
  const { code } = shell("walb image cat base 1.s.wdiff -q 2>/dev/null | head -c 100 > out");
  expect(code).not.toBe(0);
  expect(readFileSync(join(directory, "out")).length).toBe(100);
}, 300_000);
