/** @module Programs that owners and modes of files hold for, though the tests may run as root. */
import { spawnSync } from "node:child_process";

const prefix =
  process.geteuid?.() === 0 ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-linux_immutable"] : [];

/** Runs a program of the tests as a process that must have the rights to a file. @returns the JSON it printed. */
export async function withoutOverride(program: string, ...args: string[]): Promise<unknown> {
  const child = Bun.spawn([...prefix, process.execPath, program, ...args], { stdout: "pipe", stderr: "inherit" });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`${program} failed: ${text}`);
  return JSON.parse(text);
}

/** Why that is not possible here; undefined when it is. */
export const overrideLack: string | undefined =
  prefix.length > 0 && spawnSync(prefix[0]!, [...prefix.slice(1), "true"]).status !== 0 ? "setpriv" : undefined;
