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

/** How long a server may take to tell its node id. */
const nodeIdTimeoutMs = 3000;

/**
 * A server that --server names: from the fleet by its name, address or node id, which is what daemons call each other; or
 * an address, then the server is asked for its role. Of servers with one node id that of the role.
 */
export async function namedServer(flags: ClientFlagValues, io: Io, name: string, needed?: Role): Promise<FleetServer> {
  const fleet = loadFleet(flags, io);
  const known = fleet.servers.find((server) => server.name === name || server.address === name);
  if (known !== undefined) return known;
  if (!name.includes(":")) return serverWithNodeId(fleet, io, name, needed);
  const { clusterKey } = fleet;
  const reference = { name, address: asAddressText(name), ...(clusterKey === undefined ? {} : { clusterKey }) };
  const { role } = await new Client(reference, commonCommands).call("version", {}, callOptions(flags, io));
  return { ...reference, role, isPrimary: role === "archive" };
}

async function serverWithNodeId(fleet: Fleet, io: Io, nodeId: string, role: Role | undefined): Promise<FleetServer> {
  const options = { signal: io.signal, timeoutMs: nodeIdTimeoutMs };
  const nodeIdOf = async (server: FleetServer): Promise<string | undefined> =>
    (await new Client(server, commonCommands).call("version", {}, options).catch(() => undefined))?.nodeId;
  const nodeIds = await Promise.all(fleet.servers.map(nodeIdOf));
  const found = fleet.servers.filter((_, i) => nodeIds[i] === nodeId);
  const fit = found.filter((server) => server.role === role);
  const [server, ...more] = fit.length > 0 ? fit : found;
  if (server !== undefined && more.length === 0) return server;
  const names = (servers: readonly FleetServer[]): string => servers.map((one) => one.name).join(", ");
  if (more.length > 0) {
    throw new WalbError("usage", {
      what: `several servers of the fleet have the node id ${nodeId}`,
      hint: `name one of: ${names(found)}`,
    });
  }
  throw new WalbError("usage", {
    what: `there is no server ${JSON.stringify(nodeId)} in the fleet`,
    hint: `servers: ${names(fleet.servers)}; or give host:port, or add it to walb.toml: [servers.${nodeId}] role = "${role ?? "archive"}" address = "host:port"`,
  });
}

/** The server of a role that has a volume, or the one --server names. @throws WalbError `usage` for another role's. */
export async function serverFor(flags: ClientFlagValues, io: Io, role: Role, volume: string): Promise<FleetServer> {
  if (flags.server !== undefined) {
    const server = await namedServer(flags, io, flags.server, role);
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
