import { beforeAll, describe, expect, test } from "bun:test";
import { program } from "../../src/cli/commands.ts";
import { completedCommands } from "../../src/cli/completion/model.ts";
import { renderCompletion, shells } from "../../src/cli/completion/scripts.ts";
import { originalToolNames } from "../../src/cli/original/index.ts";
import { commandLines } from "../../src/cli/program.ts";
import { runIn } from "./fleet-fixture.ts";

const scripts = new Map<string, string>();
beforeAll(async () => {
  for (const shell of shells) scripts.set(shell, (await runIn("/", ["completion", shell])).out);
});

/** What bash offers after the words; the last one is being typed. */
function complete(...typed: string[]): string[] {
  const words = ["walb", ...typed].map((word) => `'${word}'`).join(" ");
  const body = `COMP_WORDS=(${words}); COMP_CWORD=${typed.length}; _walb; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = Bun.spawnSync(["bash", "-c", `${scripts.get("bash")}\n${body}`], { cwd: "/" });
  expect(stderr.toString()).toBe("");
  return stdout
    .toString()
    .split("\n")
    .filter((line) => line !== "");
}

describe("completion in bash", () => {
  test("offers commands, and those of a group", () => {
    expect(complete("st")).toEqual(["storage", "standby", "status", "start", "stop"]);
    expect(complete("device", "re")).toEqual(["resize", "reset-log"]);
    expect(complete("completion", "")).toEqual(["bash", "zsh", "fish"]);
    expect(complete("nope", "st")).toEqual(["storage", "standby", "status", "start", "stop"]);
  });

  test("offers the flags of the command", () => {
    expect(complete("status", "--w")).toEqual(["--watch", "--warning"]);
    expect(complete("device", "create", "vol0", "--reuse")).toEqual(["--reuse-log"]);
    expect(complete("device", "--nb")).toEqual(["--nbd"]);
    expect(complete("restore", "vol0", "--no-such")).toEqual([]);
  });

  test("offers the values of a flag: words, files, or nothing", () => {
    expect(complete("device", "create", "vol0", "--overflow", "")).toEqual(["keep-writing", "stop"]);
    expect(complete("device", "create", "vol0", "--overflow", "=", "st")).toEqual(["stop"]);
    expect(complete("device", "create", "vol0", "--overflow", "=")).toEqual(["keep-writing", "stop"]);
    expect(complete("restore", "vol0", "--to", "/et")).toEqual(["/etc"]);
    expect(complete("device", "create", "vol0", "--size", "")).toEqual([]);
  });
});

describe("completion in bash of the original's tools", () => {
  test("offers a tool's own words and flags", () => {
    expect(complete("walbc", "ar")).toEqual(["archive-info"]);
    expect(complete("walbc", "-a", "host", "-p", "10000", "init")).toEqual(["init-vol"]);
    expect(complete("walbc", "-")).toEqual(["-a", "-p", "-to", "-id", "-retry", "-h"]);
    expect(complete("walbc", "-a", "")).toEqual([]);
    expect(complete("wdevc", "create")).toEqual(["create-wdev"]);
    expect(complete("wdevc", "format-ldev", "-n")).toEqual(["-n", "-nd"]);
    expect(complete("walb-storage", "-arch")).toEqual(["-archive"]);
    expect(complete("wlog-show", "st")).toEqual([]);
    expect(complete("wlog-show", "/et")).toEqual(["/etc"]);
  });

  test("has every name, and offers none of them unasked", () => {
    const own = complete("");
    for (const name of originalToolNames) {
      expect([name, complete(name, "").includes("status")]).toEqual([name, name === "walbc"]);
      // wdevc is a command of its own.
      expect([name, own.includes(name)]).toEqual([name, name === "wdevc"]);
    }
  });
});

describe("all scripts", () => {
  test("name every command and every flag", async () => {
    for (const { path, load } of commandLines(program)) {
      for (const shell of shells) {
        const script = scripts.get(shell)!;
        expect([shell, path, script.includes(`'${["walb", ...path].join(" ")}'`)]).toEqual([shell, path, true]);
        for (const name of Object.keys((await load()).flags)) {
          const label = shell === "fish" ? `-l ${name}` : `--${name}`;
          expect([shell, name, script.includes(label)]).toEqual([shell, name, true]);
        }
      }
    }
  });

  test("are read without complaint by the shells that are here", () => {
    for (const shell of shells) {
      if (Bun.which(shell) === null) {
        console.log(`skipped: ${shell} is not installed`);
        continue;
      }
      const { exitCode, stderr } = Bun.spawnSync([shell, "-n"], { stdin: Buffer.from(scripts.get(shell)!) });
      expect([shell, exitCode, stderr.toString()]).toEqual([shell, 0, ""]);
    }
  });

  test("survive any help text", async () => {
    const [first, ...others] = await completedCommands(program);
    const help = 'it\'s $(touch /tmp/x) `id` "quoted": \\';
    const commands = [{ ...first!, words: [{ word: "evil", help }] }, ...others];
    for (const shell of shells) {
      const script = renderCompletion(shell, commands);
      const singles = script.split("'").length - 1;
      expect([shell, singles % 2]).toEqual([shell, 0]);
      if (shell === "fish") expect(script).toContain("-d 'it’s $(touch /tmp/x) `id` \"quoted\": \\\\'\n");
      if (shell === "bash") expect(Bun.spawnSync(["bash", "-n"], { stdin: Buffer.from(script) }).exitCode).toBe(0);
    }
  });
});

test("a shell nobody knows is a usage error", async () => {
  const { code, err } = await runIn("/", ["completion", "tcsh"]);
  expect([code, err]).toEqual([2, expect.stringContaining("none of bash, zsh, fish")]);
});
