/** @module The fleet: which servers there are and which volumes they protect; parsed from walb.toml and checked. */
import { z } from "zod";
import { addressTextSchema, volumeSchema } from "../control/schemas.ts";
import { WalbError } from "../errors.ts";
import { type WorkerTable, workerTableSchema } from "./worker/policy.ts";

/** Names of servers; the proxy uses those of archives as directory names. */
const serverNameSchema = z.string().regex(/^[0-9A-Za-z-]{1,64}$/, "1 to 64 letters, digits or dashes, e.g. s0");
export const roleSchema = z.enum(["storage", "proxy", "archive"]);
export type Role = z.output<typeof roleSchema>;

const serverSchema = z.strictObject({
  role: roleSchema,
  address: addressTextSchema,
  /** Archives: backups go here; others get their data by replication. */
  primary: z.boolean().optional(),
});

const volumeEntrySchema = z.strictObject({
  storage: z.string().optional(),
  device: z.string().min(1).optional(),
  keep: z.record(z.string(), z.union([z.string(), z.int()])).optional(),
  replicate: z.array(z.string()).optional(),
  drill: z.strictObject({ every: z.string(), command: z.string().optional() }).optional(),
});

const fileSchema = z.strictObject({
  "cluster-key": z.string().min(1).optional(),
  servers: z.record(serverNameSchema, serverSchema),
  volumes: z.record(volumeSchema, volumeEntrySchema).optional(),
  worker: workerTableSchema.optional(),
});

/** A server of the fleet. */
export interface FleetServer {
  readonly name: string;
  readonly role: Role;
  readonly address: string;
  readonly isPrimary: boolean;
  /** File with the key it is reached with. */
  readonly clusterKey?: string;
}
export type FleetVolume = z.output<typeof volumeEntrySchema>;

/** A checked fleet: every name that is mentioned exists, exactly one archive is primary if there is one. */
export interface Fleet {
  /** File it came from; undefined for the default one. */
  readonly file: string | undefined;
  /** File with the key of all its servers, as the fleet file has it: relative to that file. */
  readonly clusterKey?: string;
  readonly servers: readonly FleetServer[];
  readonly volumes: Readonly<Record<string, FleetVolume>>;
  /** Policies of the worker. */
  readonly worker?: WorkerTable | undefined;
}

/** One of each role on this host, at the default ports: what there is without a file. */
export const defaultFleet: Fleet = {
  file: undefined,
  servers: [
    { name: "s0", role: "storage", address: "127.0.0.1:10000", isPrimary: false },
    { name: "p0", role: "proxy", address: "127.0.0.1:10100", isPrimary: false },
    { name: "a0", role: "archive", address: "127.0.0.1:10200", isPrimary: true },
  ],
  volumes: {},
};

/** Parses and checks a fleet file. @throws WalbError `usage` naming file and field. */
export function parseFleet(text: string, file: string): Fleet {
  let raw: unknown;
  try {
    raw = Bun.TOML.parse(text);
  } catch (cause) {
    throw new WalbError("usage", { what: "the fleet file is not TOML", where: { file }, cause });
  }
  const parsed = fileSchema.safeParse(raw);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw bad(file, issue?.path.join(".") ?? "", issue?.message ?? "not valid");
  }
  const entries = Object.entries(parsed.data.servers);
  const archives = entries.filter(([, server]) => server.role === "archive");
  const primaries = archives.filter(([, server]) => server.primary === true);
  if (primaries.length > 1) throw bad(file, `servers.${primaries[1]?.[0]}.primary`, "only one archive can be primary");
  if (archives.length > 1 && primaries.length === 0) {
    throw bad(file, "servers", "one of the archives needs primary = true");
  }
  const primary = primaries[0]?.[0] ?? archives[0]?.[0];
  const servers = entries.map(([name, { role, address, primary: isMarked }]) => {
    if (isMarked === true && role !== "archive")
      throw bad(file, `servers.${name}.primary`, "only an archive is primary");
    return { name, role, address, isPrimary: name === primary };
  });
  const volumes = parsed.data.volumes ?? {};
  for (const [name, volume] of Object.entries(volumes)) {
    const check = (server: string | undefined, role: Role, field: string): void => {
      if (server === undefined || servers.some((known) => known.name === server && known.role === role)) return;
      throw bad(file, `volumes.${name}.${field}`, `there is no ${role} ${JSON.stringify(server)} in [servers]`);
    };
    check(volume.storage, "storage", "storage");
    for (const archive of volume.replicate ?? []) check(archive, "archive", "replicate");
  }
  const clusterKey = parsed.data["cluster-key"];
  const { worker } = parsed.data;
  return { file, servers, volumes, worker, ...(clusterKey === undefined ? {} : { clusterKey }) };
}

/** The fleet with all its servers reached with a key. @param clusterKey absolute path of the key's file. */
export function withClusterKey(fleet: Fleet, clusterKey: string): Fleet {
  return { ...fleet, clusterKey, servers: fleet.servers.map((server) => ({ ...server, clusterKey })) };
}

/** Servers of a role, in the order of the file. */
export function serversOf(fleet: Fleet, role: Role): FleetServer[] {
  return fleet.servers.filter((server) => server.role === role);
}

/** The storage that owns a volume: the one the file says, or the only one. @throws WalbError `usage`. */
export function storageOf(fleet: Fleet, volume: string): FleetServer {
  const named = fleet.volumes[volume]?.storage;
  const storages = serversOf(fleet, "storage");
  const storage = named === undefined ? storages[0] : storages.find((server) => server.name === named);
  if (storage !== undefined && (named !== undefined || storages.length === 1)) return storage;
  throw new WalbError("usage", {
    what:
      storages.length === 0
        ? "the fleet has no storage server"
        : `the fleet has ${storages.length} storage servers and does not say which one has ${volume}`,
    where: { volume, ...(fleet.file === undefined ? {} : { file: fleet.file }) },
    hint: `add to walb.toml: [volumes.${volume}] storage = "${storages[0]?.name ?? "s0"}"; or use --server`,
  });
}

/** The archive that backups go to. @throws WalbError `usage`. */
export function primaryArchive(fleet: Fleet): FleetServer {
  const archive = fleet.servers.find((server) => server.isPrimary);
  if (archive !== undefined) return archive;
  throw new WalbError("usage", {
    what: "the fleet has no archive server",
    ...(fleet.file === undefined ? {} : { where: { file: fleet.file } }),
    hint: 'add to walb.toml: [servers.a0] role = "archive" address = "backup1:10200"',
  });
}

function bad(file: string, field: string, message: string): WalbError {
  return new WalbError("usage", {
    what: `the fleet file is wrong: ${message}`,
    where: { file, ...(field === "" ? {} : { field }) },
  });
}
