/**
 * @module The manifest `volume.json` beside a volume's database: what the diffs' own names and headers do not say, so
 * that a lost database can be rebuilt. It is written after each change of the database and before the next step.
 */
import { z } from "zod";
import { asWalbError, WalbError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";
import { parseState, stateTimeText } from "../snapshot/text.ts";
import type { ArchiveState } from "../snapshot/types.ts";
import type { Cold } from "./colds.ts";
import type { Label } from "./label-rows.ts";
import type { SteadyState } from "./store.ts";

/** Name of the manifest in a volume's directory. */
export const manifestName = "volume.json";
const manifestBytesMax = 64 * 1024 * 1024;

/** What a manifest says. */
export interface Manifest {
  readonly volume: string;
  readonly state: SteadyState;
  readonly sizeLb: number;
  readonly logUuid: string | undefined;
  readonly archiveUuid: string | undefined;
  readonly base: ArchiveState | undefined;
  /** uuids of all logs that diffs of the volume come from. */
  readonly diffUuids: readonly string[];
  readonly labels: readonly Label[];
  /** Points kept as images. */
  readonly colds: readonly Cold[];
  readonly lastSyncMs: number | undefined;
  /** File that must be written over the image before it is what `base` says. */
  readonly resyncFile?: string | undefined;
  /** Logs that were followed before. */
  readonly retiredUuids?: readonly string[] | undefined;
  /** Logs that anything ever came from. */
  readonly knownUuids?: readonly string[] | undefined;
}

const uuidSchema = z.string().regex(/^[0-9a-f]{32}$/);
const schema = z.object({
  format: z.literal(1),
  volume: z.string(),
  state: z.enum(["SyncReady", "Archived", "Stopped"]),
  sizeLb: z.int().nonnegative(),
  logUuid: uuidSchema.optional(),
  archiveUuid: uuidSchema.optional(),
  base: z.string().optional(),
  diffUuids: z.array(uuidSchema),
  labels: z.array(
    z.object({ gid: z.string().regex(/^\d{1,19}$/), label: z.string().optional(), isProtected: z.boolean() }),
  ),
  colds: z.array(z.object({ gid: z.string().regex(/^\d{1,19}$/), timestampS: z.int().nonnegative() })).optional(),
  lastSyncMs: z.int().nonnegative().optional(),
  resyncFile: z
    .string()
    .regex(/^[0-9a-z.-]{1,80}$/)
    .optional(),
  retiredUuids: z.array(uuidSchema).optional(),
  knownUuids: z.array(uuidSchema).optional(),
});

/** The text of a manifest. */
export function manifestText(manifest: Manifest): string {
  const { base, labels, colds, ...rest } = manifest;
  const value = {
    format: 1,
    ...rest,
    ...(base === undefined ? {} : { base: stateTimeText(base) }),
    labels: labels.map((label) => ({ ...label, gid: label.gid.toString() })),
    ...(colds.length === 0 ? {} : { colds: colds.map((cold) => ({ ...cold, gid: cold.gid.toString() })) }),
  };
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

/** Reads a manifest; undefined when there is none. @throws WalbError `damaged` naming the file. */
export async function readManifest(disk: Disk, directory: string, volume: string): Promise<Manifest | undefined> {
  const file = `${directory}/${manifestName}`;
  if ((await disk.info(file)) === undefined) return undefined;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await disk.readSmall(file, manifestBytesMax));
    const found = schema.parse(JSON.parse(text));
    if (found.volume !== volume) throw new Error(`it is that of volume ${found.volume}`);
    return {
      volume,
      state: found.state,
      sizeLb: found.sizeLb,
      logUuid: found.logUuid,
      archiveUuid: found.archiveUuid,
      base: found.base === undefined ? undefined : parseState(found.base, 0, "base"),
      diffUuids: found.diffUuids,
      labels: found.labels.map(({ gid, label, isProtected }) => ({ gid: BigInt(gid), label, isProtected })),
      colds: (found.colds ?? []).map(({ gid, timestampS }) => ({ gid: BigInt(gid), timestampS })),
      lastSyncMs: found.lastSyncMs,
      resyncFile: found.resyncFile,
      retiredUuids: found.retiredUuids,
      knownUuids: found.knownUuids,
    };
  } catch (error) {
    const cause = asWalbError(error);
    if (cause.code === "io") throw cause;
    throw new WalbError("damaged", {
      what: "the manifest of the volume cannot be read",
      where: { volume, file },
      hint: "put the file back from a copy of the volume's directory",
      cause: error,
    });
  }
}
