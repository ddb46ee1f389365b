/** @module The original's tools against what the original printed and wrote. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { original, vector, vectors } from "./tools.ts";

let directory = "";
const startDirectory = process.cwd();

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "walb-original-"));
  // The commands of the vectors name files relative to their folder.
  if (vectors !== undefined) process.chdir(vectors);
});
afterAll(() => {
  process.chdir(startDirectory);
  rmSync(directory, { recursive: true, force: true });
});

const text = (...names: string[]): string => readFileSync(vector(...names), "utf8");
const list = (folder: string, end: string): string[] =>
  readdirSync(vector(folder)).filter((name) => name.endsWith(end));
const sha256 = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");

/** Command lines of the manifest for some tools, with what they wrote; inputs that are not there are left out. */
function manifest(tools: RegExp): { path: string; digest: string; words: string[] }[] {
  const found: { path: string; digest: string; words: string[] }[] = [];
  for (const line of text("MANIFEST.md").split("\n")) {
    const match = /^\| (\S+) \| \d+ \| (\w+) \| `([^`|]*)`/.exec(line);
    if (match === null || !tools.test(match[3]!)) continue;
    const words = match[3]!
      .trim()
      .replace(/ > \S+$/, "")
      .split(/\s+/);
    const isThere = words.every((word) => !/^(wlog|wdiff|merge|full|misc)\//.test(word) || existsSync(vector(word)));
    if (existsSync(vector(match[1]!)) && (isThere || words.includes(match[1]!))) {
      found.push({ path: match[1]!, digest: match[2]!, words });
    }
  }
  return found;
}

describe.skipIf(vectors === undefined)("what the original's tools print is printed byte for byte", () => {
  test("wlog-show and wlog-analyze", async () => {
    let compared = 0;
    for (const name of list("wlog", ".show.txt")) {
      const wlog = vector("wlog", name.replace(".show.txt", ".wlog"));
      expect((await original("wlog-show", wlog)).out).toBe(text("wlog", name));
      compared += 1;
    }
    for (const name of list("wlog", ".analyze.txt")) {
      const wlog = vector("wlog", name.replace(".analyze.txt", ".wlog"));
      expect((await original("wlog-analyze", wlog)).out).toBe(text("wlog", name));
    }
    expect(compared).toBeGreaterThan(0);
  });

  test("wdiff-show -stat", async () => {
    let compared = 0;
    for (const folder of ["wdiff", "cmpr", "merge", "full"]) {
      for (const name of list(folder, ".show.txt")) {
        const ran = await original("wdiff-show", "-stat", vector(folder, name.replace(".show.txt", "")));
        expect(ran).toEqual({ code: 0, out: text(folder, name), err: "" });
        compared += 1;
      }
    }
    expect(compared).toBeGreaterThan(10);
  });

  test("bhash, checksum, bdiff, wdiff-dump", async () => {
    let compared = 0;
    for (const { path, words } of manifest(/^(bhash|checksum) [^<]*>/)) {
      expect({ path, out: (await original(words[0]!, ...words.slice(1))).out }).toEqual({ path, out: text(path) });
      compared += 1;
    }
    for (const { path, words } of manifest(/^bdiff /)) {
      const { out, err, code } = await original(words[0]!, ...words.slice(1));
      expect(`${out}(stderr)\n${err}(exit ${code})\n`).toBe(text(path));
    }
    expect(compared).toBeGreaterThan(5);
    const dumped = join(directory, "dump");
    expect((await original("wdiff-dump", "1024", "32", "merge/r1.s.wdiff", dumped)).code).toBe(0);
    expect(readFileSync(dumped).equals(readFileSync(vector("merge/dump-r1-1024-32.bin")))).toBe(true);
  });

  test("wdiff-name-gen", async () => {
    for (const line of text("misc/wdiff-names.txt").trim().split("\n")) {
      const [words, name] = line.split("\t");
      expect((await original("wdiff-name-gen", ...words!.split(" "))).out).toBe(`${name}\n`);
    }
  });

  test("wdiff-merge -stat, but for the memory it takes", async () => {
    const files = ["merge/r1.s.wdiff", "merge/r2.i.wdiff"];
    const { err } = await original("wdiff-merge", "-stat", "-i", ...files, "-o", "/dev/null");
    const memory = /mergeMemUsage \d+KiB\n$/;
    expect(err.replace(memory, "")).toBe(text("merge/merge-stat.txt").replace(memory, ""));
  });
});

describe.skipIf(vectors === undefined)("what the original's tools write is written", () => {
  test("images after wlog-redo, wdiff-redo and virt-full-cat, and their statistics", async () => {
    const cases: { command: string; init: string; image_size: number; sha256: string; stdout: string }[] = JSON.parse(
      text("images.json"),
    );
    let compared = 0;
    for (const { command, init, image_size, sha256: digest, stdout } of cases) {
      const inputs = command.match(/\b(wlog|wdiff|merge|full|cmpr)\/\S+/g) ?? [];
      if (!inputs.every((path) => existsSync(vector(path)))) continue;
      const image = join(directory, "image");
      if (init !== "-") writeFileSync(image, Buffer.alloc(image_size, init === "ff" ? 0xff : 0));
      const outs: string[] = [];
      for (const one of command.split(" && ")) {
        const line = one
          .replace(/ img\b/, ` ${image}`)
          .replace("-o out", `-o ${image}`)
          .replace(/ < (\S+)/, " -i $1");
        const [name, ...words] = line.trim().split(/\s+/);
        const { code, out } = await original(name!, ...words);
        expect({ command, code }).toEqual({ command, code: 0 });
        outs.push(out);
      }
      expect({ command, sha256: sha256(image), out: outs.join("\n") }).toEqual({
        command,
        sha256: digest,
        out: stdout,
      });
      compared += 1;
    }
    expect(compared).toBeGreaterThan(10);
  }, 300_000);

  test("wlog-to-wdiff, wdiff-merge and wdiff-full make the same records with the same data", async () => {
    let compared = 0;
    for (const { path, digest, words } of manifest(/^(wlog-to-wdiff|wdiff-merge|wdiff-full) [^<]*$/)) {
      if (path.endsWith(".txt") || words.some((word) => !existsInput(word, path))) continue;
      const output = join(directory, "output.wdiff");
      const line = words.map((word) => (word === path ? output : word));
      expect({ path, code: (await original(line[0]!, ...line.slice(1))).code }).toEqual({ path, code: 0 });
      compared += 1;
      // Compressed bytes depend on the versions of libraries; most often they are the same.
      if (sha256(output).startsWith(digest)) continue;
      expect(await records(output)).toEqual(await records(vector(path)));
      expect(await imageOf(output)).toBe(await imageOf(vector(path)));
    }
    expect(compared).toBeGreaterThan(10);
  }, 300_000);

  test("wcmpr -d expands the containers, and expands what wcmpr made", async () => {
    const source = readFileSync(vector("misc/cmpr-src.bin"));
    const [expanded, packed] = [join(directory, "expanded"), join(directory, "packed")];
    for (const codec of ["snappy", "gzip", "lzma", "lz4", "zstd"]) {
      await original("wcmpr", "-d", vector(`misc/cmpr-src.wcmpr-${codec}`), expanded);
      expect(readFileSync(expanded).equals(source)).toBe(true);
      await original("wcmpr", "-m", codec, "-s", "16384", vector("misc/cmpr-src.bin"), packed);
      await original("wcmpr", "-d", packed, expanded);
      expect(readFileSync(expanded).equals(source)).toBe(true);
    }
  });
});

describe("wcmpr of zeroes", () => {
  test("expands to the same zeroes, whatever the size", async () => {
    const [source, packed, expanded] = [join(directory, "zero"), join(directory, "z"), join(directory, "zz")];
    for (const codec of ["none", "snappy", "gzip", "lz4", "zstd"]) {
      for (const sizeBytes of [1, 14, 15, 17, 18, 24, 25, 64, 65, 279, 280, 281, 4096, 100_000]) {
        writeFileSync(source, Buffer.alloc(sizeBytes));
        expect((await original("wcmpr", "-m", codec, source, packed)).code).toBe(0);
        expect({ codec, sizeBytes, ran: await original("wcmpr", "-d", packed, expanded) }).toEqual({
          codec,
          sizeBytes,
          ran: { code: 0, out: "", err: "" },
        });
        expect(readFileSync(expanded).equals(Buffer.alloc(sizeBytes))).toBe(true);
      }
    }
  }, 300_000);
});

function existsInput(word: string, output: string): boolean {
  return word === output || !word.includes("/") || existsSync(vector(word));
}

/** Addresses, sizes and kinds of all records. */
async function records(path: string): Promise<string[]> {
  const { out } = await original("wdiff-show", "-nohead", path);
  return out.split("\n").map((line) => {
    const cells = line.split("\t");
    return [cells[1], cells[2], cells.at(-1)].join(" ");
  });
}

/** Digest of 0xff bytes with a diff applied. */
async function imageOf(path: string): Promise<string> {
  const image = join(directory, "image");
  writeFileSync(image, Buffer.alloc(4 * 1024 * 1024, 0xff));
  await original("wdiff-redo", "-z", "-i", path, image);
  return sha256(image);
}
