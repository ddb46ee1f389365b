/**
 * @module Volume directories of the original's archive daemon: state, uuids, state of the base image, cold snapshots,
 * an interrupted full replication, diffs. Source: `docs/formats.md`, per-volume metadata files.
 */
import type { Disk } from "../platform/disk.ts";
import type { ArchiveState } from "../snapshot/types.ts";
import { lbBytes, u64Max } from "../units.ts";
import { putArchiveState, takeArchiveState } from "../wire/meta.ts";
import { diffFilesOf, type LegacyDiffFile } from "./diffs.ts";
import { badFile, readValue, takeWord, writeValue } from "./files.ts";

/** States that the original's archive daemon stores. */
const legacyArchiveStates = ["SyncReady", "Archived", "Stopped"] as const;
export type LegacyArchiveState = (typeof legacyArchiveStates)[number];

/** How far an interrupted full replication got. */
export interface LegacyFullReplState {
  readonly state: ArchiveState;
  readonly progressLb: number;
  readonly timestampS: number;
}

/** A cold snapshot: the image as of a gid is kept in a volume of its own. */
export interface LegacyColdSnapshot {
  readonly gid: bigint;
  readonly timestampS: number;
}

/** A volume of the original's archive daemon. */
export interface LegacyArchiveVolume {
  readonly state: LegacyArchiveState;
  /** uuid of the log device it is a copy of, 32 hex digits; all zero before the first backup. */
  readonly uuid: string;
  /** Family of replicas it belongs to, 32 hex digits; all zero before the first backup. */
  readonly archiveUuid: string;
  /** State of the base image; its snapshot is unset before the first backup. */
  readonly base: ArchiveState;
  /** Ascending by gid. */
  readonly colds: readonly LegacyColdSnapshot[];
  readonly fullRepl: LegacyFullReplState | undefined;
  /** Sorted by name. */
  readonly diffs: readonly LegacyDiffFile[];
  /** Names of what the original would not keep or does not know. */
  readonly leftovers: readonly string[];
}

const coldSuffix = ".cold";
const knownNames = new Set(["state", "uuid", "archive_uuid", "base", "full_repl_state"]);

/**
 * Reads a volume directory of the original's archive daemon, which must not be running.
 * @throws WalbError `not-found`, `bad-format` naming file and field.
 */
export async function readLegacyArchiveVolume(disk: Disk, directory: string): Promise<LegacyArchiveVolume> {
  const state = await readValue(disk, `${directory}/state`, "state", (decoder) =>
    takeWord(decoder, "state", legacyArchiveStates),
  );
  const uuid = await readValue(disk, `${directory}/uuid`, "uuid", (decoder) => decoder.uuid());
  const archiveUuid = await readValue(disk, `${directory}/archive_uuid`, "archive_uuid", (decoder) => decoder.uuid());
  const base = await readValue(disk, `${directory}/base`, "base", (decoder) => takeArchiveState(decoder, "base"));
  if (state === "Archived" && base.from.gidB === u64Max) {
    throw badFile(`${directory}/base`, "base", "is unset, though the volume is Archived");
  }
  const { diffs, others } = await diffFilesOf(disk, directory);
  const colds: LegacyColdSnapshot[] = [];
  const leftovers: string[] = [];
  let fullRepl: LegacyFullReplState | undefined;
  for (const name of others) {
    if (name === "full_repl_state") fullRepl = await readFullRepl(disk, `${directory}/${name}`);
    else if (name.endsWith(coldSuffix)) colds.push(await readCold(disk, directory, name));
    else if (!knownNames.has(name)) leftovers.push(name);
  }
  colds.sort((a, b) => (a.gid < b.gid ? -1 : 1));
  return { state, uuid, archiveUuid, base, colds, fullRepl, diffs, leftovers };
}

/** Writes the metadata files of a volume directory, `state` last; diffs are the caller's to put there. */
export async function writeLegacyArchiveVolume(
  disk: Disk,
  directory: string,
  volume: Omit<LegacyArchiveVolume, "diffs" | "leftovers">,
): Promise<void> {
  await disk.makeDirectory(directory);
  const { fullRepl } = volume;
  await writeValue(disk, `${directory}/uuid`, (encoder) => encoder.uuid(volume.uuid));
  await writeValue(disk, `${directory}/archive_uuid`, (encoder) => encoder.uuid(volume.archiveUuid));
  await writeValue(disk, `${directory}/base`, (encoder) => putArchiveState(encoder, volume.base));
  for (const { gid, timestampS } of volume.colds) {
    await writeValue(disk, `${directory}/${gid}${coldSuffix}`, (encoder) => encoder.u64(timestampS));
  }
  if (fullRepl === undefined) await disk.remove(`${directory}/full_repl_state`);
  else {
    await writeValue(disk, `${directory}/full_repl_state`, (encoder) => {
      putArchiveState(encoder, fullRepl.state);
      encoder.u64(fullRepl.progressLb).u64(fullRepl.timestampS);
    });
  }
  await writeValue(disk, `${directory}/state`, (encoder) => encoder.string(volume.state));
}

function readFullRepl(disk: Disk, path: string): Promise<LegacyFullReplState> {
  return readValue(disk, path, "full_repl_state", (decoder) => ({
    state: takeArchiveState(decoder, "state"),
    progressLb: decoder.size("progressLb", Math.floor(Number.MAX_SAFE_INTEGER / lbBytes)),
    timestampS: decoder.size("timestamp"),
  }));
}

async function readCold(disk: Disk, directory: string, name: string): Promise<LegacyColdSnapshot> {
  const path = `${directory}/${name}`;
  const digits = name.slice(0, -coldSuffix.length);
  if (!/^(0|[1-9]\d{0,19})$/.test(digits) || BigInt(digits) >= u64Max) {
    throw badFile(path, "name", `"${name.slice(0, 80)}" does not begin with a gid`);
  }
  const timestampS = await readValue(disk, path, "timestamp", (decoder) => decoder.size("timestamp"));
  return { gid: BigInt(digits), timestampS };
}
