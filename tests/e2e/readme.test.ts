import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { binary } from "../helpers/fleet.ts";

const root = resolve(import.meta.dir, "../..");
const readme = readFileSync(join(root, "README.md"), "utf8");
const install = readFileSync(join(root, "docs/operations/install.md"), "utf8");
const section = /## The first five minutes[\s\S]*?\n## /.exec(readme)?.[0] ?? "";
/** The commands below "The first five minutes": on one machine, the daemons of several hosts, and the verbs there. */
const [oneMachine = "", daemons = "", verbs = ""] = [...section.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, it]) => it);
const fleetFile = /```toml\n([\s\S]*?)```/.exec(install)?.[1] ?? "";
/** The default ports are used as they stand, so the commands get a network of their own; that needs root. */
const canUnshare = Bun.spawnSync(["unshare", "-n", "sh", "-c", "ip link set lo up"]).exitCode === 0;

/** The commands with the daemons in the background, which a person has in terminals of their own. */
function inBackground(commands: string): string {
  return commands
    .replaceAll("\\\n", " ")
    .replace(/ +#.*$/gm, "")
    .replace(
      /^(walb (?:up|archive|proxy|device|storage)\b.*)$/gm,
      "$1 > daemon.txt &\nuntil grep -q listening daemon.txt; do sleep 0.1; done; rm daemon.txt",
    );
}

async function follow(directory: string, commands: string): Promise<string> {
  const path = join(directory, "script.sh");
  writeFileSync(path, `set -e\nip link set lo up\ntrap 'kill $(jobs -p); wait' EXIT\n${commands}`);
  const child = Bun.spawn(["unshare", "-n", "timeout", "100", "bash", path], {
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
      const script = inBackground(oneMachine);
      expect(script.match(/&$/gm)).toHaveLength(1);
      expect(await follow(directory, script)).toContain("restorable as snapshot");
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
  120_000,
);

test.skipIf(!canUnshare)(
  "the first five minutes of the README work as they are written, with the daemons of several hosts",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "walb-readme-"));
    try {
      const here = (text: string) =>
        text.replaceAll(/\/(srv|etc\/walb)\b/g, directory).replaceAll(/\b(pc1|relay1|backup1)\b/g, "127.0.0.1");
      const script = inBackground(here(`${daemons}${verbs}`));
      expect(script.match(/&$/gm)).toHaveLength(4);
      writeFileSync(join(directory, "walb.toml"), here(fleetFile));
      // Five minutes have not passed, and the worker would go on for ever.
      const short = script.replace("--at -5m", "--at -0s").replace("walb worker", "walb worker --once");
      expect(await follow(directory, short)).toContain("before-upgrade");
      expect(statSync(join(directory, "vol0.img")).size).toBe(10 * 2 ** 30);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
  120_000,
);
