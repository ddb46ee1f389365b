/** @module The stage of the demo: a directory, four daemons in it, a fleet file, and the program's own verbs. */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { exitCodes, WalbError } from "../../errors.ts";
import type { Io } from "../verb.ts";
import { childEnvironment, type Daemon, freePort, ownCommand, startDaemon } from "./daemons.ts";

/** Ports used when nobody else has them. */
const preferredPorts = { storage: 10000, proxy: 10100, archive: 10200 } as const;

/** A running stage. */
export interface Stage {
  readonly directory: string;
  readonly daemons: readonly Daemon[];
  readonly controlPath: string;
  readonly nbdPath: string;
  readonly addresses: Readonly<Record<keyof typeof preferredPorts, string>>;
  /** Path inside the directory. */
  path(name: string): string;
  /** Runs a verb of this very program, showing command and output as a user would see them. @returns its stdout. */
  walb(...args: string[]): Promise<string>;
  /** Stops the daemons, the source of data first, and removes everything unless it is kept. */
  close(keep: boolean): Promise<void>;
}

/** Starts device, archive, proxy and storage below `directory`, which must not exist. */
export async function openStage(directory: string, io: Io): Promise<Stage> {
  mkdirSync(directory, { recursive: true });
  const path = (name: string): string => join(directory, name);
  const daemons: Daemon[] = [];
  const start = async (role: string, ...args: string[]): Promise<string> => {
    if (io.signal.aborted) throw new WalbError("cancelled", { what: "interrupted" });
    const data = ["--data", path(role)];
    const daemon = await startDaemon(role, [...data, ...args], path(`${role}.log`));
    daemons.push(daemon);
    return daemon.address;
  };
  const server = async (role: keyof typeof preferredPorts, ...args: string[]): Promise<string> => {
    const port = await freePort(preferredPorts[role]);
    return start(role, "--node", `demo-${role}`, "--port", String(port), ...args);
  };
  const close = async (keep: boolean): Promise<void> => {
    for (const daemon of daemons.toReversed()) await daemon.stop();
    if (!keep) rmSync(directory, { recursive: true, force: true });
  };
  try {
    const nbdPath = path("nbd.sock");
    await start("device", "--nbd", `unix:${nbdPath}`);
    const controlPath = path("device/control.sock");
    const archive = await server("archive");
    const proxy = await server("proxy");
    const storage = await server("storage", "--device-socket", controlPath, "--archive", archive, "--proxy", proxy);
    const addresses = { storage, proxy, archive };
    writeFileSync(path("walb.toml"), fleetFile(addresses));
    return {
      directory,
      daemons,
      controlPath,
      nbdPath,
      addresses,
      path,
      close,
      walb: verbRunner(path("walb.toml"), io),
    };
  } catch (error) {
    await close(false);
    throw error;
  }
}

function fleetFile(addresses: Readonly<Record<string, string>>): string {
  const names: Readonly<Record<string, string>> = { storage: "s0", proxy: "p0", archive: "a0" };
  return Object.entries(addresses)
    .map(([role, address]) => `[servers.${names[role]}]\nrole = "${role}"\naddress = "${address}"\n`)
    .join("\n");
}

function verbRunner(fleetPath: string, io: Io): (...args: string[]) => Promise<string> {
  return async (...args) => {
    io.out(`  $ walb ${args.map((arg) => (/[\s"]/.test(arg) ? JSON.stringify(arg) : arg)).join(" ")}\n`);
    const child = Bun.spawn([...ownCommand(), ...args], {
      stdin: "ignore",
      stdout: "pipe",
      // Inherited, so that a progress bar is one where there is a terminal.
      stderr: "inherit",
      env: { ...childEnvironment(), WALB_FLEET: fleetPath },
    });
    const interrupt = (): void => child.kill("SIGINT");
    io.signal.addEventListener("abort", interrupt);
    const output = await new Response(child.stdout).text();
    const exitCode = await child.exited;
    io.signal.removeEventListener("abort", interrupt);
    for (const line of output.trimEnd().split("\n")) if (line !== "") io.out(`  ${line}\n`);
    if (exitCode === exitCodes.done) return output;
    throw new WalbError("io", { what: `walb ${args[0]} ended with exit code ${exitCode}` });
  };
}
