/** @module The device daemon alone, and nbdkit, which it stands beside. */
import { existsSync, mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { binary, runBinary } from "../../helpers/fleet.ts";
import type { NbdTarget } from "./load.ts";

const startMsMax = 60_000;

/** A running server of NBD exports. */
export interface NbdServer {
  readonly pid: number;
  target(exportName: string): NbdTarget;
  /** SIGTERM, or SIGKILL. */
  end(signal?: "SIGTERM" | "SIGKILL"): Promise<void>;
}

/** Starts `walb device` in a directory of its own; devices that are there are opened again. */
export async function startDevice(directory: string): Promise<NbdServer> {
  mkdirSync(directory, { recursive: true });
  const socketPath = join(directory, "nbd.sock");
  const child = Bun.spawn([binary, "device", "--data", directory, "--nbd", `unix:${socketPath}`], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: Bun.file(join(directory, "log")),
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), startMsMax);
  const { value } = await child.stdout.getReader().read();
  clearTimeout(timer);
  if (value === undefined) {
    throw new Error(`walb device did not start: ${await Bun.file(join(directory, "log")).text()}`);
  }
  return server(child, socketPath);
}

/** Makes a device. */
export async function createDevice(
  directory: string,
  name: string,
  sizeBytes: number,
  logBytes: number,
): Promise<void> {
  const sizes = ["--size", `${sizeBytes}`, "--log-size", `${logBytes}`];
  await deviceVerb(directory, "create", name, ...sizes);
}

/** Lets everything logged so far go to the data store. */
export async function checkpoint(directory: string, name: string): Promise<void> {
  await deviceVerb(directory, "checkpoint", name);
}

async function deviceVerb(directory: string, ...words: string[]): Promise<void> {
  const { code, err } = await runBinary(["device", ...words, "--device-data", directory]);
  if (code !== 0) throw new Error(`walb device ${words.join(" ")} ended with ${code}: ${err}`);
}

/** `nbdkit file` on a new file; undefined when nbdkit is not installed. */
export async function startNbdkit(directory: string, sizeBytes: number): Promise<NbdServer | undefined> {
  const path = Bun.which("nbdkit");
  if (path === null) return undefined;
  mkdirSync(directory, { recursive: true });
  const file = join(directory, "data");
  writeFileSync(file, "");
  truncateSync(file, sizeBytes);
  const socketPath = join(directory, "nbdkit.sock");
  const child = Bun.spawn([path, "--foreground", "--unix", socketPath, "file", file], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "inherit",
  });
  const endMs = performance.now() + startMsMax;
  while (!existsSync(socketPath)) {
    if (child.exitCode !== null || performance.now() > endMs) throw new Error("nbdkit did not start");
    await Bun.sleep(10);
  }
  return server(child, socketPath);
}

function server(child: Bun.Subprocess, socketPath: string): NbdServer {
  return {
    pid: child.pid,
    target: (exportName) => ({ socketPath, exportName }),
    async end(signal = "SIGTERM") {
      child.kill(signal);
      await child.exited;
    },
  };
}
