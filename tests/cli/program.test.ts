import { describe, expect, test } from "bun:test";
import { type ArgsDef, type CommandDef, runCommand } from "citty";
import { program } from "../../src/cli/commands.ts";
import { asChoice, list, optionOr, required, toggle } from "../../src/cli/flags.ts";
import { command, group } from "../../src/cli/program.ts";
import { runCommandLine } from "../../src/cli/run.ts";
import { defineVerb, type Io } from "../../src/cli/verb.ts";
import { WalbError } from "../../src/errors.ts";
import { quietIo } from "../helpers/quiet-io.ts";
import { runIn } from "./fleet-fixture.ts";

/** Resolves what citty leaves open: a value, a promise, or a function for either. */
async function resolved<Value>(value: Value | Promise<Value> | (() => Value | Promise<Value>)): Promise<Value> {
  return typeof value === "function" ? (value as () => Value | Promise<Value>)() : value;
}

/** All commands below one, as a tool that only knows citty finds them. */
async function walk(parent: CommandDef, path: string): Promise<Map<string, ArgsDef>> {
  const found = new Map<string, ArgsDef>();
  const members = Object.entries((await resolved(parent.subCommands)) ?? {});
  for (const [name, member] of members) {
    const definition = (await resolved(member)) as CommandDef;
    if ((await resolved(definition.meta))?.hidden === true) continue;
    found.set(`${path} ${name}`, (await resolved(definition.args)) ?? {});
    for (const [below, args] of await walk(definition, `${path} ${name}`)) found.set(below, args);
  }
  return found;
}

describe("the tree of commands", () => {
  test("can be walked with nothing but citty's types, down to flags and arguments", async () => {
    const found = await walk(program, "walb");
    expect(found.size).toBeGreaterThan(25);
    expect(found.get("walb restore")).toMatchObject({
      VOL: { type: "positional" },
      to: { type: "string", valueHint: "PATH" },
      overwrite: { type: "boolean" },
      quiet: { type: "boolean", alias: "q" },
    });
    expect(found.get("walb device create")?.overflow).toMatchObject({
      type: "string",
      valueHint: "keep-writing|stop",
      default: "keep-writing",
    });
    expect([...found.keys()]).not.toContain("walb device daemon");
  });

  test("loads no command until it is called or looked into", async () => {
    let loads = 0;
    const lazy = command("lazy", "loaded late", async () => {
      loads += 1;
      return { verb: defineVerb({ summary: "Lazy", flags: {}, examples: ["walb lazy"], run: async () => 0 }) };
    });
    const root = group("walb", "walb", [lazy, group("more", "more", [lazy])]);
    const { code, out } = await runIn("/", ["--help"], {}, root);
    expect([code, loads, out]).toEqual([0, 0, expect.stringContaining("lazy  loaded late")]);
    expect((await runIn("/", ["lazy"], {}, root)).code).toBe(0);
    expect(loads).toBeGreaterThan(0);
  });
});

describe("the strict layer", () => {
  const seen: unknown[] = [];
  const verb = defineVerb({
    summary: "Strict",
    positionals: [{ name: "VOL", help: "a volume", isRequired: true }],
    flags: {
      to: required("PATH", "where to", (text) => text),
      nbd: list("ADDR", "addresses", (text) => text),
      mode: optionOr("MODE", "how", asChoice(["fast", "safe"]), "safe"),
      force: toggle("at once", { alias: "f" }),
    },
    examples: ["walb strict vol0 --to /x"],
    async run({ flags, args }) {
      seen.push([flags, args]);
      return 0;
    },
  });
  const strict = command("strict", "strict", async () => ({ verb }));
  const bare = command("daemon", "runs", async () => ({ verb }), { hidden: true });
  const root = group("walb", "walb", [strict, group("group", "a group", [strict], bare)]);

  test("gets every word as it was typed", async () => {
    const words = ["strict", "vol0", "--to", "-", "--nbd", "a", "-f", "--nbd=b,c", "--mode=fast"];
    expect((await runIn("/", words, {}, root)).code).toBe(0);
    expect(seen.pop()).toEqual([{ to: "-", nbd: ["a", "b", "c"], mode: "fast", force: true }, ["vol0"]]);
    expect((await runIn("/", ["strict", "vol0"], { env: { WALB_TO: "/env", WALB_NBD: "x" } }, root)).code).toBe(0);
    expect(seen.pop()).toEqual([{ to: "/env", nbd: ["x"], mode: "safe", force: false }, ["vol0"]]);
  });

  test("refuses what citty would let pass", async () => {
    for (const [words, text] of [
      [["strict", "vol0", "--to", "/x", "--froce"], "unknown flag --froce"],
      [["strict", "vol0", "--to", "/x", "vol1"], 'surplus argument "vol1"'],
      [["strict", "vol0", "--to"], "--to needs a value"],
      [["strict", "vol0"], "--to is missing"],
      [["strict", "--to", "/x"], "VOL is missing"],
      [["strict", "vol0", "--to", "/x", "--to", "/y"], "--to is given twice"],
      [["strict", "vol0", "--to", "/x", "--mode", "slow"], "none of fast, safe"],
      [["--to", "/x", "strict", "vol0"], 'no command "--to"'],
      [["group", "--to", "/x", "strict", "vol0"], 'surplus argument "vol0"'],
      [["group", "daemon", "vol0", "--to", "/x"], 'no command "daemon"'],
      [["strct", "vol0"], "did you mean: walb strict"],
      [["__proto__"], 'no command "__proto__"'],
    ] as const) {
      const { code, out, err } = await runIn("/", words, {}, root);
      expect([words, code, out]).toEqual([words, 2, ""]);
      expect(err).toContain(text);
      expect(err).toBe(Bun.stripANSI(err));
      expect(err).not.toMatch(/\bat .*\.ts:\d+/);
    }
    expect(seen).toEqual([]);
  });

  test("is in force when citty itself runs a command", async () => {
    const io = { env: {} } as Io;
    const work = runCommand(strict, { rawArgs: ["vol0", "--to", "/x", "--froce"], data: io });
    expect(await work.catch((error: unknown) => error)).toBeInstanceOf(WalbError);
    expect(await runCommand(strict, { rawArgs: ["vol0", "--to", "/x"], data: io })).toEqual({ result: 0 });
    expect(seen.pop()).toMatchObject([{ to: "/x" }, ["vol0"]]);
  });

  test("reads a group with flags only as its bare meaning", async () => {
    expect((await runIn("/", ["group", "--to", "/x", "-f", "--", "vol0"], {}, root)).code).toBe(0);
    expect(seen.pop()).toMatchObject([{ to: "/x", force: true }, ["vol0"]]);
    expect((await runIn("/", ["group", "--help"], {}, root)).out).toContain("As a daemon:");
    expect((await runIn("/", ["help", "group", "strict"], {}, root)).out).toContain("walb group strict VOL --to PATH");
  });
});

test("the program never throws, whatever the words", async () => {
  const { io } = quietIo({ cwd: "/" });
  for (const words of [
    [],
    ["-"],
    ["--"],
    [""],
    ["help", "nope"],
    ["device", "help", "nope"],
    ["status", "--", "a", "b"],
  ]) {
    expect([words, await runCommandLine(words, io)]).toEqual([words, 2]);
  }
});
