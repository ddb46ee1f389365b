import { describe, expect, test } from "bun:test";
import { dirname, join, relative } from "node:path";
import { Glob } from "bun";

/**
 * Which folders of src a folder may import, from the top down: the table of the architecture document. Roles implement
 * the commands declared in control, so control is below them; http serves a control, and knows no role.
 */
const layers: readonly (readonly string[])[] = [
  ["main.ts"],
  ["cli"],
  ["fleet"],
  ["http", "storage", "proxy", "archive"],
  ["control"],
  ["volume", "legacy", "wire", "secure", "device", "image"],
  ["log", "diff", "snapshot"],
  ["native", "platform"],
  ["errors.ts", "units.ts"],
];
/** Folders that must not import each other although they are in one layer. */
const apart = ["http", "storage", "proxy", "archive"];

const source = join(import.meta.dir, "..", "src");
const level = (folder: string): number => layers.findIndex((layer) => layer.includes(folder));
const folderOf = (path: string): string => relative(source, path).split("/")[0] ?? "";

interface Import {
  readonly file: string;
  readonly from: string;
  readonly to: string;
  readonly target: string;
}

async function imports(): Promise<Import[]> {
  const found: Import[] = [];
  const parser =
    /(?:^|\n)\s*(?:import|export)\s[^;"']*?from\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)|(?:^|\n)import\s*["']([^"']+)["']/g;
  for await (const name of new Glob("**/*.ts").scan(source)) {
    const file = join(source, name);
    const text = await Bun.file(file).text();
    for (const match of text.matchAll(parser)) {
      const target = match[1] ?? match[2] ?? match[3] ?? "";
      const to = target.startsWith(".") ? folderOf(join(dirname(file), target)) : "";
      found.push({ file: name, from: folderOf(file), to, target });
    }
  }
  return found;
}

describe("architecture", () => {
  test("imports point downwards only", async () => {
    const all = await imports();
    expect(all.length).toBeGreaterThan(100);
    const wrong = all.filter(({ from, to, target }) => {
      if (to === "" || to === ".." || from === to || from === "sim") return false;
      if (target.endsWith("package.json")) return false;
      if (level(from) < 0 || level(to) < 0 || level(to) < level(from)) return true;
      return apart.includes(from) && apart.includes(to);
    });
    expect(wrong.map(({ file, target }) => `${file} imports ${target}`)).toEqual([]);
  });

  test("nothing imports the simulator, so that it is no part of the program", async () => {
    const wrong = (await imports()).filter(({ from, to }) => to === "sim" && from !== "sim");
    expect(wrong.map(({ file }) => file)).toEqual([]);
  });

  test("imports of our own files say their extension", async () => {
    const wrong = (await imports()).filter(
      ({ target }) => target.startsWith(".") && !/\.(ts|json|sql|html|so)$/.test(target),
    );
    expect(wrong.map(({ file, target }) => `${file} imports ${target}`)).toEqual([]);
  });

  test("only the real platform, the bindings and the program's ends touch the host", async () => {
    const allowed = /^(native|platform\/real|cli|http\/server\.ts|http\/client\.ts|main\.ts)/;
    const banned: readonly (readonly [string, RegExp])[] = [
      ["Date.now", /\bDate\.now\(/],
      ["setTimeout", /\bset(Timeout|Interval)\(/],
      ["performance.now", /\bperformance\.now\(/],
      ["Math.random", /\bMath\.random\(/],
      ["Bun I/O", /\bBun\.(listen|connect|serve|file|write|spawn|spawnSync|sleep|sleepSync)\(/],
      [
        "fs, net or child processes of node",
        /from\s+"node:(fs|fs\/promises|net|dgram|child_process|worker_threads|timers)"/,
      ],
      ["bun:ffi", /from\s+"bun:ffi"/],
    ];
    const wrong: string[] = [];
    for await (const name of new Glob("**/*.ts").scan(source)) {
      if (allowed.test(name)) continue;
      const text = (await Bun.file(join(source, name)).text()).replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
      for (const [label, pattern] of banned) if (pattern.test(text)) wrong.push(`${name} uses ${label}`);
    }
    expect(wrong).toEqual([]);
  });

  test("every file says in its first line what it is", async () => {
    const wrong: string[] = [];
    for await (const name of new Glob("**/*.ts").scan(source)) {
      if (name.endsWith(".d.ts")) continue;
      if (!/^(#!.*\n)?\/\*\*\s+(\* )?@module /.test(await Bun.file(join(source, name)).text())) wrong.push(name);
    }
    expect(wrong).toEqual([]);
  });

  test("no test of a simulated world has expect(promise) run the event loop inside of itself: there the world stands still", async () => {
    const tests = join(source, "..", "tests");
    const reached = new Map<string, Promise<readonly string[]>>();
    const importsOf = (file: string): Promise<readonly string[]> => {
      const text = Bun.file(file).text();
      const found = text.then((text) =>
        [...text.matchAll(/from "(\.[^"]+\.ts)"/g)].map(([, to]) => join(dirname(file), to!)),
      );
      if (!reached.has(file)) reached.set(file, found);
      return reached.get(file)!;
    };
    const isSimulated = async (file: string): Promise<boolean> => {
      const files = new Set([file]);
      for (const one of files) {
        if (folderOf(one) === "sim") return true;
        for (const other of await importsOf(one)) files.add(other);
      }
      return false;
    };
    const wrong: string[] = [];
    for await (const name of new Glob("**/*.ts").scan(tests)) {
      const file = join(tests, name);
      if (!/\)\s*\.(rejects|resolves)\b/.test(await Bun.file(file).text())) continue;
      if (await isSimulated(file)) wrong.push(`${name}: use expectError of tests/helpers/errors.ts`);
    }
    expect(wrong).toEqual([]);
  });
});
