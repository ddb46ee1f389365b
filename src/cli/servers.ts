/** @module Which servers a command talks to, and clients for them. */
import { commonCommands } from "../control/common.ts";
import { WalbError, withArticle } from "../errors.ts";
import { type Fleet, type FleetServer, primaryArchive, type Role, serversOf, storageOf } from "../fleet/fleet.ts";
import { Client } from "../http/client.ts";
import { type ClientFlagValues, callOptions, loadFleet } from "./common.ts";
import { asAddressText } from "./flags.ts";
import type { Io } from "./verb.ts";

export {
  type ArchiveClient,
  archiveClient,
  type ProxyClient,
  proxyClient,
  type StorageClient,
  sharedClient,
  storageClient,
} from "../fleet/clients.ts";

/** A server that --server names: from the fleet, or an address, then the server is asked for its role. */
export async function namedServer(flags: ClientFlagValues, io: Io, name: string): Promise<FleetServer> {
  const fleet = loadFleet(flags, io);
  const known = fleet.servers.find((server) => server.name === name || server.address === name);
  if (known !== undefined) return known;
  if (!name.includes(":")) {
    throw new WalbError("usage", {
      what: `there is no server ${JSON.stringify(name)} in the fleet`,
      hint: `servers: ${fleet.servers.map((server) => server.name).join(", ")}; or give host:port`,
    });
  }
  const { clusterKey } = fleet;
  const reference = { name, address: asAddressText(name), ...(clusterKey === undefined ? {} : { clusterKey }) };
  const { role } = await new Client(reference, commonCommands).call("version", {}, callOptions(flags, io));
  return { ...reference, role, isPrimary: role === "archive" };
}

/** The server of a role that has a volume, or the one --server names. @throws WalbError `usage` for another role's. */
export async function serverFor(flags: ClientFlagValues, io: Io, role: Role, volume: string): Promise<FleetServer> {
  if (flags.server !== undefined) {
    const server = await namedServer(flags, io, flags.server);
    if (server.role === role) return server;
    throw new WalbError("usage", {
      what: `${flags.server} is ${withArticle(server.role)} server, this needs the ${role} server`,
      hint: `leave --server out, or name ${withArticle(role)} server`,
    });
  }
  const fleet = loadFleet(flags, io);
  if (role === "storage") return storageOf(fleet, volume);
  if (role === "archive") return primaryArchive(fleet);
  const proxy = serversOf(fleet, "proxy")[0];
  if (proxy !== undefined) return proxy;
  throw new WalbError("usage", { what: "the fleet has no proxy server", where: { volume } });
}

/** All servers on the path of a volume, in the order in which data goes, or the one --server names. */
export async function pathOf(flags: ClientFlagValues, io: Io, volume: string): Promise<FleetServer[]> {
  if (flags.server !== undefined) return [await namedServer(flags, io, flags.server)];
  const fleet = loadFleet(flags, io);
  return [storageOf(fleet, volume), ...serversOf(fleet, "proxy"), ...archivesOf(fleet, volume)];
}

/** The primary archive and those a volume is replicated to. */
export function archivesOf(fleet: Fleet, volume: string): FleetServer[] {
  const others = fleet.volumes[volume]?.replicate ?? [];
  const primary = primaryArchive(fleet);
  return [
    primary,
    ...serversOf(fleet, "archive").filter((server) => server !== primary && others.includes(server.name)),
  ];
}
