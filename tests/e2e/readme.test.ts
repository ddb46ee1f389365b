import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { binary } from "../helpers/fleet.ts";

const readme = readFileSync(resolve(import.meta.dir, "../../README.md"), "utf8");
/** The section "The first five minutes", and the commands and files in it. */
const section = /## The first five minutes[\s\S]*?(?=\n## )/.exec(readme)?.[0] ?? "";
const blocksOf = (language: string): string[] =>
  [...section.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, "g"))].map(([, text]) => text ?? "");
const [oneMachine = "", daemons = "", verbs = ""] = blocksOf("sh");
const [fleetFile = ""] = blocksOf("toml");
/** The default ports are used as they stand, so the commands get a network of their own; that needs root. */
const canUnshare = Bun.spawnSync(["unshare", "-n", "sh", "-c", "ip link set lo up"]).exitCode === 0;

/** Runs commands as they stand, but for directories and host names, which lead to this machine. */
async function run(directory: string, commands: string, daemonCount: number): Promise<string> {
  const here = (text: string): string =>
    text
      .replaceAll("/srv/walb", directory)
      .replaceAll("/etc/walb", directory)
      .replaceAll(/\b(backup1|relay1|pc1):/g, "127.0.0.1:");
  writeFileSync(join(directory, "walb.toml"), here(fleetFile));
  // A person takes a moment after starting a daemon.
  const script = here(commands).replace(/&( +#.*)?$/gm, "&\nsleep 2");
  expect(script.match(/&\nsleep 2/g)).toHaveLength(daemonCount);
  const path = join(directory, "script.sh");
  writeFileSync(path, `set -e\nip link set lo up\ntrap 'kill $(jobs -p); wait' EXIT\n${script}`);
  const child = Bun.spawn(["unshare", "-n", "bash", path], {
    env: { PATH: `${dirname(binary)}:${process.env.PATH ?? ""}`, HOME: directory },
    stdout: "pipe",
    stderr: "pipe",
    cwd: directory,
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  expect({ code: await child.exited, text: `${out}${err}` }).toMatchObject({ code: 0 });
  return out;
}

test.skipIf(!canUnshare)(
  "the first five minutes of the README work as they are written, on one machine",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "walb-readme-"));
    try {
      mkdirSync(join(directory, "one"));
      // Without a fleet file the verbs talk to the default ports.
      const out = await run(directory, `rm walb.toml; cd one\n${oneMachine}walb status\n`, 1);
      expect(out).toContain("full backup of vol0 done");
      expect(out).toMatch(/vol0 +yes/);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
  300_000,
);

test.skipIf(!canUnshare)(
  "the first five minutes of the README work as they are written, on several hosts",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "walb-readme-"));
    try {
      const out = await run(directory, `${daemons}${verbs}`, 4);
      expect(out).toContain("before-upgrade");
      expect(out).toContain("all is well");
      expect(statSync(join(directory, "vol0.img")).size).toBe(10 * 2 ** 30);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
  300_000,
);
