import { describe, expect, test } from "bun:test";
import { wdevcCommands } from "../../src/cli/original/wdevc/commands.ts";
import { walb, wdevc } from "./wdevc.ts";

const documented = [
  "format-ldev",
  "create-wdev",
  "delete-wdev",
  "list",
  "set-checkpoint-interval",
  "get-checkpoint-interval",
  "force-checkpoint",
  "set-oldest-lsid",
  "get-oldest-lsid",
  "get-written-lsid",
  "get-permanent-lsid",
  "get-completed-lsid",
  "get-log-usage",
  "get-log-capacity",
  "is-flush-capable",
  "is-log-overflow",
  "is-flozen",
  "resize",
  "reset-wal",
  "clear-wal",
  "freeze",
  "melt",
  "get-version",
];

describe("the command line of wdevc", () => {
  test("has the original's commands, its spelling included, and help lists them all", async () => {
    expect([...wdevcCommands.keys()].sort()).toEqual(documented.toSorted());
    const { code, out, err } = await wdevc({}, "-h");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toContain("usage:wdevc [-debug] [-h] COMMAND ARGS OPTIONS\n");
    for (const command of documented) expect(out).toMatch(new RegExp(`^  ${command}\\b`, "m"));
  });

  test("an unknown command is a redundant argument: that line, the usage, exit 1", async () => {
    const { code, out, err } = await wdevc({}, "start-wdev", "/dev/x");
    expect({ code, err }).toEqual({ code: 1, err: "" });
    expect(out.split("\n")[0]).toBe("OptionError:redundant argVal:start-wdev");
    expect(out).toContain("usage:wdevc");
    expect(await walb({}, "wdevc", "start-wdev", "/dev/x")).toEqual({ code, out, err });
  });

  test("missing and surplus arguments, unknown options and bad numbers are option errors with exit 1", async () => {
    const firstLine = async (...words: string[]): Promise<string> => {
      const { code, out, err } = await wdevc({}, ...words);
      expect({ words, code, err }).toEqual({ words, code: 1, err: "" });
      return out.split("\n")[0]!;
    };
    expect(await firstLine()).toBe("OptionError:no param:COMMAND");
    expect(await firstLine("-x", "list")).toBe("OptionError:bad option:-x");
    expect(await firstLine("list", "a")).toBe("OptionError:redundant argVal:a");
    expect(await firstLine("format-ldev", "a")).toBe("OptionError:no param:DDEV");
    expect(await firstLine("create-wdev", "a", "b", "-maxp", "many")).toBe("OptionError:bad value:-maxp:many");
    expect(await firstLine("create-wdev", "a", "b", "-x")).toBe("OptionError:bad option:-x");
    expect(await firstLine("set-oldest-lsid", "/dev/walb/x")).toBe("OptionError:no param:LSID");
  });

  test("help of a command has the original's defaults", async () => {
    const { code, out } = await wdevc({}, "create-wdev", "-h");
    expect(code).toBe(0);
    const defaults = { maxl: 32, maxp: 32, minp: 16, qp: 100, fs: 16, fp: 100, bp: 128, bi: 1024 };
    for (const [option, value] of Object.entries(defaults)) {
      expect(out).toMatch(new RegExp(`^  -${option} .*\\(default:${value}\\)$`, "m"));
    }
  });
});
