import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { program } from "../../src/cli/commands.ts";
import { parseCommandLine } from "../../src/cli/parse.ts";
import { bareCommand, commandLines, namedCommands, type WalbCommand } from "../../src/cli/program.ts";

const root = resolve(import.meta.dir, "../..");
/** What a substitution in a text of the program may stand for. */
const samples = ["vol0", "12", "/x"];

/** Words of a shell line, without quotes, and without the files that it is led to. */
function wordsOf(line: string): string[] {
  const own = line.replace(/ (>>?|<|2>) ?\S+.*$/, "");
  return [...own.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
}

/** Reads a command as the program would, short of doing it. @returns what is wrong with it. */
async function refusal(words: readonly string[]): Promise<string | undefined> {
  let at: WalbCommand = program;
  let depth = 0;
  for (; at.subCommands !== undefined && depth < words.length; depth += 1) {
    const next = namedCommands(at).find(({ meta }) => meta.name === words[depth]);
    if (next === undefined) break;
    at = next;
  }
  const load = at.load ?? bareCommand(at)?.load;
  if (load === undefined) return "there is no such command";
  const rest = words.slice(depth).map((word) => word.replace(/^(GID|LSID)$/, "12").replace(/^SIZE$/, "1G"));
  try {
    parseCommandLine(await load(), rest, {});
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** The commands of walb in lines for a shell. */
function commandsIn(lines: string): string[] {
  const whole = lines.replace(/\\\n\s*/g, " ").split("\n");
  const pieces = whole.flatMap((line) => line.replace(/(^| +)#.*$/, "").split(/;|\||&&|\$\(|\)|&\s*$/));
  return pieces.flatMap((piece) => /^\s*walb (.*)$/.exec(piece)?.[1] ?? []);
}

const folders = ["", "docs", "docs/operations"];
const pages = folders.flatMap((folder) =>
  readdirSync(join(root, folder)).flatMap((name) => (name.endsWith(".md") ? [join(folder, name)] : [])),
);

test.each(pages)("every command line in %s is one that walb takes", async (page) => {
  const text = readFileSync(join(root, page), "utf8");
  for (const [, block] of text.matchAll(/```sh\n([\s\S]*?)```/g)) {
    for (const command of commandsIn(block!))
      expect([command, await refusal(wordsOf(command))]).toEqual([command, undefined]);
  }
});

test("every example in the help is one that walb takes", async () => {
  for (const { load } of commandLines(program)) {
    for (const example of (await load()).examples ?? []) {
      for (const command of commandsIn(example)) {
        expect([command, await refusal(wordsOf(command))]).toEqual([command, undefined]);
      }
    }
  }
});

/** Texts of a module as people see them; `\0` is something that is put in. */
function textsOf(source: string): string[] {
  let code = source.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  for (let before = ""; before !== code; ) {
    before = code;
    code = code.replace(/\$\{([^{}`]*|[^{}`]*`[^`{}$]*`[^{}`]*)\}/g, (_, inner: string) =>
      inner.includes(" ? ") ? "" : "\0",
    );
  }
  const joined = code.replace(/["`] \+\n\s*["`]/g, "");
  return [...joined.matchAll(/(["'`])((?:\\.|(?!\1)[^\n])*)\1/g)].map((match) => match[2]!);
}

test("every command that a hint tells to run is one that walb takes", async () => {
  const wrong: string[] = [];
  let count = 0;
  for (const file of readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".ts") || /^cli\/(commands|original\/)/.test(file)) continue;
    for (const text of textsOf(readFileSync(join(root, "src", file), "utf8"))) {
      // Behind a colon a command is written to be run as it stands; elsewhere it may be spoken of.
      for (const [, line] of text.matchAll(/: walb ([^;,()`]+?)(?=[;,()]|\. |\.$|: |\\n|$)/g)) {
        count += 1;
        const tries = samples.map((sample) =>
          refusal(wordsOf(line!.replace(/(?<=\w)\0/g, "").replaceAll("\0", sample))),
        );
        const refusals = await Promise.all(tries);
        if (!refusals.includes(undefined)) wrong.push(`${file}: walb ${line!.replaceAll("\0", "…")}: ${refusals[0]}`);
      }
    }
  }
  expect(wrong).toEqual([]);
  expect(count).toBeGreaterThan(100);
});
