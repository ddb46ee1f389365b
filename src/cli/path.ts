/** @module Commands that act on a volume at one server or along its whole path: one step per server, told as it is done. */
import { asWalbError, WalbError } from "../errors.ts";
import { type FleetServer, serversOf } from "../fleet/fleet.ts";
import { type ClientFlagValues, callOptions, loadFleet, print, remark } from "./common.ts";
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

/**
 * The servers of a volume's path (or the one of --server) with its state there: its storage, the proxies, and every archive
 * that is to have it, that a proxy feeds, or that has it in fact.
 */
export async function statesOf(flags: ClientFlagValues, io: Io, volume: string): Promise<PathServer[]> {
  const first = await Promise.all((await pathOf(flags, io, volume)).map((server) => ask(server, flags, io, volume)));
  const known: PathServer[] = first.map(({ server, state }) => ({ ...server, state }));
  if (flags.server !== undefined) return known;
  const fleet = loadFleet(flags, io);
  const isKnown = ({ name }: { readonly name: string }): boolean => known.some((server) => server.name === name);
  for (const { archiveName, address } of first.flatMap(({ feeds }) => feeds)) {
    const named = fleet.servers.find((server) => server.name === archiveName || server.address === address);
    const { clusterKey } = fleet;
    const key = clusterKey === undefined ? {} : { clusterKey };
    const archive = named ?? { name: archiveName, role: "archive", address, isPrimary: false, ...key };
    if (isKnown(archive)) continue;
    const { state } = await ask(archive, flags, io, volume);
    known.push({ ...archive, state });
  }
  for (const archive of serversOf(fleet, "archive")) {
    if (isKnown(archive)) continue;
    try {
      const { state } = await ask(archive, flags, io, volume);
      if (state !== "Clear") known.push({ ...archive, state });
    } catch (thrown) {
      const error = asWalbError(thrown);
      if (error.code === "cancelled") throw error;
      // It is not meant to have the volume, and must not keep the others from it.
      remark(flags, io, `going on without ${archive.name}, which may have ${volume}: ${error.what}`);
    }
  }
  return known;
}

/** The state at one server; of a proxy also the archives that it feeds. */
async function ask(server: FleetServer, flags: ClientFlagValues, io: Io, volume: string) {
  const options = callOptions(flags, io);
  if (server.role === "proxy") {
    const { volumes } = await proxyClient(server).call("status", { volume }, options);
    return { server, state: volumes[0]?.state ?? "Clear", feeds: volumes[0]?.archives ?? [] };
  }
  const { volumes } =
    server.role === "storage"
      ? await storageClient(server).call("status", { volume }, options)
      : await archiveClient(server).call("status", { volume }, options);
  return { server, state: volumes[0]?.state ?? "Clear", feeds: [] };
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
