import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { binary } from "../helpers/fleet.ts";

const readme = readFileSync(resolve(import.meta.dir, "../../README.md"), "utf8");
/** The commands below "The first five minutes". */
const block = /## The first five minutes[\s\S]*?```sh\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
/** The default ports are used as they stand, so the commands get a network of their own; that needs root. */
const canUnshare = Bun.spawnSync(["unshare", "-n", "sh", "-c", "ip link set lo up"]).exitCode === 0;

test.skipIf(!canUnshare)(
  "the first five minutes of the README work as they are written",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "walb-readme-"));
    try {
      const moved = block.replaceAll("/srv/walb", directory).replaceAll("/run/walb.nbd", join(directory, "nbd"));
      // A person takes a moment after starting a daemon.
      const script = moved.replace(/&( +#.*)?$/gm, "&\nsleep 1");
      expect(script.match(/&\nsleep 1/g)).toHaveLength(4);
      const path = join(directory, "script.sh");
      writeFileSync(path, `set -e\nip link set lo up\ntrap 'kill $(jobs -p)' EXIT\n${script}`);
      const child = Bun.spawn(["unshare", "-n", "bash", path], {
        env: { PATH: `${dirname(binary)}:${process.env.PATH ?? ""}`, HOME: directory },
        stdout: "pipe",
        stderr: "pipe",
        cwd: directory,
      });
      const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
      expect({ code: await child.exited, text: `${out}${err}` }).toMatchObject({ code: 0 });
      expect(out).toContain("before-upgrade");
      expect(statSync(join(directory, "vol0.img")).size).toBe(10 * 2 ** 30);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
  60_000,
);
