/** @module Asks every server of a fleet about a volume, at the same time. One that does not answer is told as missing. */
import { asWalbError } from "../../errors.ts";
import { archiveClient, proxyClient, storageClient } from "../clients.ts";
import { type Fleet, type FleetServer, primaryArchive } from "../fleet.ts";
import type { ArchiveView, Missing, ProxyView, StorageView, VolumeView } from "./view.ts";

/** How long a server is waited for. */
export const askTimeoutMs = 15_000;

export interface AskOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

/** The present states of a volume. @throws WalbError `cancelled`; a server that does not answer is in `missing`. */
export async function collectView(fleet: Fleet, volume: string, options: AskOptions = {}): Promise<VolumeView> {
  const ask = { timeoutMs: askTimeoutMs, ...options };
  const storages: StorageView[] = [];
  const proxies: ProxyView[] = [];
  const archives: ArchiveView[] = [];
  const missing: Missing[] = [];
  const one = async (server: FleetServer): Promise<void> => {
    try {
      if (server.role === "storage") {
        const status = await storageClient(server).call("status", { volume }, ask);
        const addresses = status.proxies.map(({ address }) => address);
        storages.push({ server, volume: status.volumes[0]!, archive: status.archive, proxies: addresses });
      } else if (server.role === "proxy") {
        const { volumes } = await proxyClient(server).call("status", { volume }, ask);
        proxies.push({ server, volume: volumes[0]! });
      } else {
        const { volumes } = await archiveClient(server).call("status", { volume }, ask);
        archives.push({ server, volume: volumes[0]! });
      }
    } catch (thrown) {
      const error = asWalbError(thrown, { host: server.name });
      if (error.code === "cancelled") throw error;
      missing.push({ server, error });
    }
  };
  await Promise.all(fleet.servers.map(one));
  const order = (a: { server: FleetServer }, b: { server: FleetServer }) =>
    fleet.servers.indexOf(a.server) - fleet.servers.indexOf(b.server);
  return {
    volume,
    primary: primaryArchive(fleet),
    storages: storages.toSorted(order),
    proxies: proxies.toSorted(order),
    archives: archives.toSorted(order),
    missing: missing.toSorted(order),
  };
}

/** Names of the volumes that any of these servers knows, sorted. @throws when one does not answer and is not excused. */
export async function volumesAt(
  servers: readonly FleetServer[],
  options: AskOptions = {},
  excused: readonly string[] = [],
): Promise<string[]> {
  const ask = { timeoutMs: askTimeoutMs, ...options };
  const names = new Set<string>();
  for (const server of servers) {
    try {
      const client =
        server.role === "storage"
          ? storageClient(server).call("volumes", {}, ask)
          : server.role === "proxy"
            ? proxyClient(server).call("volumes", {}, ask)
            : archiveClient(server).call("volumes", {}, ask);
      for (const name of (await client).volumes) names.add(name);
    } catch (error) {
      if (!excused.includes(server.name)) throw asWalbError(error, { host: server.name });
    }
  }
  return [...names].sort();
}
