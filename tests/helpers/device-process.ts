/** @module A device daemon as a process that may be killed and started again, with real clients around it. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { controlSocketPath, deviceControlClient } from "../../src/device/user/control/client.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";

const main = join(import.meta.dir, "..", "device", "daemon", "main.ts");

/** A daemon with one volume named vol. */
export class DeviceProcess {
  readonly directory = mkdtempSync(join(tmpdir(), "walb-device-process-"));
  readonly socket = join(this.directory, "nbd.sock");
  readonly uri = `nbd+unix:///vol?socket=${this.socket}`;
  private child: Bun.Subprocess<"ignore", "pipe", "inherit"> | undefined;

  get dataPath(): string {
    return join(this.directory, "d", "vol.data");
  }

  /** Starts the daemon; it is ready to serve when this returns. */
  async start(): Promise<void> {
    this.child = Bun.spawn([process.execPath, main, join(this.directory, "d"), this.socket], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    const reader = this.child.stdout.getReader();
    const { value } = await reader.read();
    reader.releaseLock();
    if (!new TextDecoder().decode(value).includes("ready")) throw new Error("the daemon did not start");
  }

  /** Makes the volume, on files of the daemon's own unless stores are named. */
  async create(
    sizeBytes: number,
    logSizeBytes: number,
    stores: { readonly dataPath?: string; readonly logPath?: string } = {},
  ): Promise<void> {
    const platform = createPlatform({ memoryBudgetBytes: 16 << 20, threads: 2 });
    const control = await deviceControlClient(platform, controlSocketPath(join(this.directory, "d")));
    await control.create({ name: "vol", sizeBytes, logSizeBytes, ...stores });
    await control.close();
    await closePlatform(platform);
  }

  /** Resolves when a client has written to the volume; gives up after 30 s. */
  async written(): Promise<void> {
    const platform = createPlatform({ memoryBudgetBytes: 16 << 20, threads: 2 });
    const control = await deviceControlClient(platform, controlSocketPath(join(this.directory, "d")));
    for (let i = 0; i < 600 && ((await control.show("vol")).status?.lsids.latest ?? 0) === 0; i++) await Bun.sleep(50);
    await control.close();
    await closePlatform(platform);
  }

  /** CPU time of the daemon so far. */
  get cpuMs(): number {
    const stat = readFileSync(`/proc/${this.child!.pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  async end(signal: "SIGKILL" | "SIGTERM"): Promise<number> {
    this.child!.kill(signal);
    return await this.child!.exited;
  }

  async close(): Promise<void> {
    if (this.child !== undefined && this.child.exitCode === null) await this.end("SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Runs a program. @throws with its output when it fails. */
export function run(...command: string[]): Promise<string> {
  return runWithin(60_000, ...command);
}

/** The same, with a time limit of its own. */
export async function runWithin(timeout: number, ...command: string[]): Promise<string> {
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe", timeout });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")} failed (${child.exitCode}): ${err}${out}`);
  return out;
}

/** Programs that are not installed; /sbin counts. */
export function missing(...programs: string[]): string[] {
  const PATH = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;
  return programs.filter((program) => Bun.which(program, { PATH }) === null);
}
