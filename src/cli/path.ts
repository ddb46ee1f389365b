/** @module Commands that act on a volume at one server or along its whole path: one step per server, told as it is done. */
import { WalbError } from "../errors.ts";
import type { FleetServer } from "../fleet/fleet.ts";
import { type ClientFlagValues, callOptions, print, remark } from "./common.ts";
import { archiveClient, pathOf, proxyClient, storageClient } from "./servers.ts";
import type { Io } from "./verb.ts";

/** A server on the path with the state of the volume there. */
export interface PathServer extends FleetServer {
  readonly state: string;
}

/** What to do at one server. */
export interface PathStep {
  readonly server: FleetServer;
  /** `stop vol0 at s0 (graceful)`. */
  readonly text: string;
  run(): Promise<unknown>;
}

/** The servers of a volume's path (or the one of --server) with its state there. */
export async function statesOf(flags: ClientFlagValues, io: Io, volume: string): Promise<PathServer[]> {
  const servers = await pathOf(flags, io, volume);
  const options = callOptions(flags, io);
  return Promise.all(
    servers.map(async (server) => {
      const client =
        server.role === "storage"
          ? storageClient(server).call("status", { volume }, options)
          : server.role === "proxy"
            ? proxyClient(server).call("status", { volume }, options)
            : archiveClient(server).call("status", { volume }, options);
      const { volumes } = await client;
      return { ...server, state: volumes[0]?.state ?? "Clear" };
    }),
  );
}

/**
 * Refuses what only stopped volumes allow before it is done anywhere: half a path is of no use.
 * @throws WalbError `state`.
 */
export function requireStopped(volume: string, servers: readonly PathServer[]): void {
  const running = servers.filter(({ state }) => !["Clear", "Stopped", "SyncReady", "Broken"].includes(state));
  if (running.length === 0) return;
  throw new WalbError("state", {
    what: `the volume must be stopped, but it is ${running.map(({ name, state }) => `${state} at ${name}`).join(", ")}`,
    where: { volume },
    hint: `stop it first: ${running.map(({ name }) => `walb stop ${volume} --server ${name}`).join("; ")}`,
  });
}

/**
 * Does the steps in order and tells each; the first that fails ends it. With `isDryRun` only tells them.
 * @throws WalbError `state` when there is nothing to do, so that a script notices.
 */
export async function runSteps(
  flags: ClientFlagValues & { readonly "dry-run"?: boolean },
  io: Io,
  volume: string,
  servers: readonly PathServer[],
  steps: readonly PathStep[],
): Promise<void> {
  if (steps.length === 0) {
    const states = servers.map(({ name, state }) => `${name} ${state}`).join(", ");
    throw new WalbError("state", {
      what: `there is nothing to do in these states: ${states}`,
      where: { volume },
      hint: `see what each server needs with: walb status ${volume}`,
    });
  }
  for (const step of steps) {
    if (flags["dry-run"] !== true) await step.run();
    remark(flags, io, `${flags["dry-run"] === true ? "would " : ""}${step.text}`);
  }
  const done = steps.map(({ server, text }) => ({ server: server.name, step: text }));
  print(flags, io, { volume, isDryRun: flags["dry-run"] === true, steps: done }, "");
}
