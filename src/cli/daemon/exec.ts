/**
 * @module What `exec` of the original's protocol may run here: nothing; the device tool, which is this very program, and
 * the question whether a block device is there; or anything. Never through a shell of ours.
 */
import { statSync } from "node:fs";
import { basename } from "node:path";
import { WalbError } from "../../errors.ts";
import { PeerError } from "../../wire/words.ts";

/** Longest a program may run, and most that it may say. */
const timeoutMs = 600_000;
const outputBytesMax = 1024 * 1024;

/** What peers may run. */
export type ExecScope = "none" | "wdevc" | "any";

/** Runs programs for peers; undefined when nothing may be run. @param env more of the programs' environment. */
export function programRunner(
  scope: ExecScope,
  env: Readonly<Record<string, string>> = {},
): ((words: readonly string[]) => Promise<readonly string[]>) | undefined {
  if (scope === "none") return undefined;
  return async (words) => {
    const [program = "", ...args] = words;
    if (basename(program) === "wdevc") return run([process.execPath, ...args], words, { argv0: "wdevc", env });
    const path = deviceAskedFor(words);
    if (path !== undefined) return [isBlockDevice(path) ? "1" : "0"];
    if (scope === "any") return run(words, words, { env });
    throw new PeerError(
      `not allowed to exec:${program}`,
      new WalbError("unsupported", {
        what: `only wdevc may be run for others, not ${program}`,
        hint: "run other programs over ssh",
      }),
    );
  };
}

/** The path in `sh -c "if [ -b PATH ]; then echo 1; else echo 0; fi"`, which the original's library asks with. */
function deviceAskedFor(words: readonly string[]): string | undefined {
  const [shell = "", option, script = "", ...more] = words;
  if (!/(^|\/)(ba|da)?sh$/.test(shell) || option !== "-c" || more.length > 0) return undefined;
  const match =
    /^\s*"?\s*if \[ -[be] (['"]?)(\/[\w./+:@-]+)\1 \]\s*;\s*then echo 1\s*;\s*else echo 0\s*;\s*fi;?\s*"?\s*$/.exec(
      script,
    );
  return match?.[2];
}

function isBlockDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isBlockDevice() === true;
}

interface RunOptions {
  readonly argv0?: string;
  readonly env: Readonly<Record<string, string>>;
}

/** @param words as they were asked for, for errors. */
async function run(command: readonly string[], words: readonly string[], options: RunOptions): Promise<string[]> {
  const child = Bun.spawn([...command], {
    ...(options.argv0 === undefined ? {} : { argv0: options.argv0 }),
    env: { ...process.env, ...options.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: timeoutMs,
    maxBuffer: outputBytesMax,
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const code = await child.exited;
  if (code !== 0) {
    // The status as the kernel gives it to a parent.
    throw new PeerError(
      `child process has returned non-zero:${code * 256}`,
      new WalbError("state", { what: `${words.join(" ")} ended with ${code}: ${(err || out).trim()}` }),
    );
  }
  return out.split("\n").filter((line) => line !== "");
}
