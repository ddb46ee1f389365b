/** @module The fleet: which servers there are and which volumes they protect; parsed from walb.toml and checked. */
import { z } from "zod";
import { addressTextSchema, volumeSchema } from "../control/schemas.ts";
import { WalbError, withArticle } from "../errors.ts";
import { readableOf } from "./readable.ts";
import { type WorkerTable, workerTableSchema } from "./worker/policy.ts";

/** Names of servers; the proxy uses those of archives as directory names. */
const serverNameSchema = z.string().regex(/^[0-9A-Za-z-]{1,64}$/, "1 to 64 letters, digits or dashes, e.g. s0");
const roleSchema = z.enum(["storage", "proxy", "archive"]);
export type Role = z.output<typeof roleSchema>;

const serverSchema = z.strictObject({
  role: roleSchema,
  address: addressTextSchema.refine(
    (text) => !/:0+$/.test(text),
    "port 0 is nobody's: write the one the daemon listens on",
  ),
  /** Archives: backups go here; others get their data by replication. */
  primary: z.boolean().optional(),
});

const volumeEntrySchema = z.strictObject({
  storage: z.string().optional(),
  device: z.string().min(1).optional(),
  keep: z
    .record(
      z.string(),
      z.union([z.string(), z.int()], {
        error: ({ input }) =>
          `${JSON.stringify(input)} is no time like "3d" or "forever", and no whole number of seconds`,
      }),
    )
    .optional(),
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

/** Something that is wrong in a fleet file. */
export interface FleetProblem {
  /** Dotted path, e.g. `servers.a0.address`; empty for the file as a whole. */
  readonly field: string;
  readonly what: string;
}

/** Parses and checks a fleet file. @throws WalbError `usage` naming file and field. */
export function parseFleet(text: string, file: string): Fleet {
  const { fleet, problems } = readFleetText(text, file);
  const [first] = problems;
  if (first !== undefined) throw bad(file, first.field, first.what);
  return fleet!;
}

/** What a fleet file says. */
export interface FleetReading {
  /** Everything that is wrong. */
  readonly problems: FleetProblem[];
  /** What could be read; undefined when that is nothing. */
  readonly fleet: Fleet | undefined;
  /** Dotted paths of what has a wrong form and is therefore missing in the fleet; empty when nothing is. */
  readonly missing: readonly string[];
}

/** Parses a fleet file and tells everything that is wrong in it. */
export function readFleetText(text: string, file: string): FleetReading {
  let raw: object;
  try {
    raw = Bun.TOML.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? `: ${cause.message}` : "";
    return { fleet: undefined, problems: [{ field: "", what: `it is not TOML${why}` }], missing: [] };
  }
  const parsed = fileSchema.safeParse(raw);
  const problems: FleetProblem[] = [];
  if (parsed.success) return { fleet: fleetOf(parsed.data, file, [], problems), problems, missing: [] };
  problems.push(
    ...parsed.error.issues.map((issue) => {
      // Of a name, what is wrong with it stands below.
      const inner = issue.code === "invalid_key" ? issue.issues[0]?.message : undefined;
      if (issue.code !== "invalid_type") return { field: issue.path.join("."), what: inner ?? issue.message };
      const kind = withArticle(issue.expected === "record" ? "table" : issue.expected);
      const isMissing = valueAt(raw, issue.path) === undefined;
      return { field: issue.path.join("."), what: isMissing ? `it is missing: ${kind}` : `it must be ${kind}` };
    }),
  );
  const rest = readableOf(fileSchema, { ...raw, servers: isTable(raw, "servers") ? Reflect.get(raw, "servers") : {} });
  if (rest === undefined) return { fleet: undefined, problems, missing: [] };
  const missing = isTable(raw, "servers") ? rest.wrong : ["servers", ...rest.wrong];
  return { fleet: fleetOf(rest.settings, file, missing, problems), problems, missing };
}

function isTable(raw: object, name: string): boolean {
  const value: unknown = Reflect.get(raw, name);
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param missing dotted paths that have a wrong form: what follows from their absence is no problem. */
function fleetOf(
  settings: z.output<typeof fileSchema>,
  file: string,
  missing: readonly string[],
  problems: FleetProblem[],
): Fleet {
  const isWrong = (path: string): boolean => missing.some((one) => one === path || one.startsWith(`${path}.`));
  const problem = (field: string, what: string): void => {
    problems.push({ field, what });
  };
  const entries = Object.entries(settings.servers);
  const archives = entries.filter(([, server]) => server.role === "archive");
  const primaries = archives.filter(([, server]) => server.primary === true);
  for (const [name] of primaries.slice(1)) problem(`servers.${name}.primary`, "only one archive can be primary");
  const isUnsure = isWrong("servers");
  if (archives.length > 1 && primaries.length === 0 && !isUnsure)
    problem("servers", "one of the archives needs primary = true");
  const primary = primaries[0]?.[0] ?? (isUnsure ? undefined : archives[0]?.[0]);
  const servers = entries.map(([name, { role, address, primary: isMarked }]) => {
    if (isMarked === true && role !== "archive") problem(`servers.${name}.primary`, "only an archive is primary");
    return { name, role, address, isPrimary: name === primary };
  });
  const volumes = settings.volumes ?? {};
  for (const [name, volume] of Object.entries(volumes)) {
    const check = (server: string | undefined, role: Role, field: string): void => {
      if (server === undefined || servers.some((known) => known.name === server && known.role === role)) return;
      if (missing.includes("servers") || (isWrong(`servers.${server}`) && !(server in settings.servers))) return;
      problem(`volumes.${name}.${field}`, `there is no ${role} ${JSON.stringify(server)} in [servers]`);
    };
    check(volume.storage, "storage", "storage");
    for (const archive of volume.replicate ?? []) check(archive, "archive", "replicate");
  }
  const { "cluster-key": clusterKey, worker } = settings;
  return { file, servers, volumes, worker, ...(clusterKey === undefined ? {} : { clusterKey }) };
}

function valueAt(raw: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) => (typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined),
    raw,
  );
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

/** Names may be written in several ways; only what is surely another address differs. */
export function isSameAddress(a: string, b: string): boolean {
  const parts = (text: string): [string, string] => {
    const at = text.lastIndexOf(":");
    const host = text.slice(0, at).toLowerCase();
    return [host === "localhost" || host === "[::1]" ? "127.0.0.1" : host, text.slice(at + 1)];
  };
  const [hostA, portA] = parts(a);
  const [hostB, portB] = parts(b);
  if (portA !== portB) return false;
  if (hostA === hostB) return true;
  // A name and a number may be the same host.
  const isNumber = (host: string): boolean => /^[\d.]+$|^\[/.test(host);
  return isNumber(hostA) !== isNumber(hostB);
}
