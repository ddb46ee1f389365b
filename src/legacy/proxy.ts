/**
 * @module Volume directories of the original's proxy daemon: size, archives, diffs received and still to be sent.
 * Source: `docs/formats.md`, per-volume metadata files.
 */
import type { Disk } from "../platform/disk.ts";
import { lbBytes } from "../units.ts";
import { type ArchiveTarget, putArchiveTarget, takeArchiveTarget } from "../wire/meta.ts";
import { diffFilesOf, type LegacyDiffFile } from "./diffs.ts";
import { badFile, readValue, writeValue } from "./files.ts";

/** An archive that a proxy volume sends to. */
export interface LegacyProxyArchive {
  readonly name: string;
  readonly target: ArchiveTarget;
  /** Diffs not yet delivered. */
  readonly pending: readonly LegacyDiffFile[];
}

/** A volume of the original's proxy daemon. */
export interface LegacyProxyVolume {
  /** 0 until the first log arrived. */
  readonly sizeLb: number;
  /** Sorted by name. */
  readonly archives: readonly LegacyProxyArchive[];
  /** Diffs converted but not yet handed to all archives. */
  readonly received: readonly LegacyDiffFile[];
  /** Paths of what the original would not keep or does not know, relative to the directory. */
  readonly leftovers: readonly string[];
}

const suffix = ".archive";

/**
 * Reads a volume directory of the original's proxy daemon, which must not be running.
 * @throws WalbError `not-found`, `bad-format` naming file and field.
 */
export async function readLegacyProxyVolume(disk: Disk, directory: string): Promise<LegacyProxyVolume> {
  const sizeLb = await readValue(disk, `${directory}/size`, "size", (decoder) =>
    decoder.size("size", Math.floor(Number.MAX_SAFE_INTEGER / lbBytes)),
  );
  const leftovers: string[] = [];
  const archives: LegacyProxyArchive[] = [];
  for (const name of await disk.list(directory)) {
    if (name === "size" || name === "received" || name === "sendto") continue;
    if (!name.endsWith(suffix)) {
      leftovers.push(name);
      continue;
    }
    const archive = checkArchiveName(name.slice(0, -suffix.length), `${directory}/${name}`);
    const target = await readValue(disk, `${directory}/${name}`, "archive", (decoder) => takeArchiveTarget(decoder));
    const pending = await diffFilesOf(disk, `${directory}/sendto/${archive}`);
    archives.push({ name: archive, target, pending: pending.diffs });
    for (const other of pending.others) leftovers.push(`sendto/${archive}/${other}`);
  }
  const received = await diffFilesOf(disk, `${directory}/received`);
  for (const other of received.others) leftovers.push(`received/${other}`);
  const known = new Set(archives.map(({ name }) => name));
  const sendto = await disk.info(`${directory}/sendto`);
  for (const name of sendto?.kind === "directory" ? await disk.list(`${directory}/sendto`) : []) {
    if (!known.has(name)) leftovers.push(`sendto/${name}`);
  }
  return { sizeLb, archives, received: received.diffs, leftovers };
}

/** Writes the metadata files of a volume directory and makes its folders; diffs are the caller's to put there. */
export async function writeLegacyProxyVolume(
  disk: Disk,
  directory: string,
  volume: Pick<LegacyProxyVolume, "sizeLb"> & {
    readonly archives: readonly Pick<LegacyProxyArchive, "name" | "target">[];
  },
): Promise<void> {
  await disk.makeDirectory(`${directory}/received`);
  await disk.makeDirectory(`${directory}/sendto`);
  for (const { name, target } of volume.archives) {
    const path = `${directory}/${checkArchiveName(name, directory)}${suffix}`;
    await disk.makeDirectory(`${directory}/sendto/${name}`);
    await writeValue(disk, path, (encoder) => putArchiveTarget(encoder, target));
  }
  await writeValue(disk, `${directory}/size`, (encoder) => encoder.u64(volume.sizeLb));
}

function checkArchiveName(name: string, file: string): string {
  if (/^[^/\0]{1,255}$/.test(name) && name !== "." && name !== "..") return name;
  throw badFile(file, "archive name", `"${name.slice(0, 80)}" cannot be`);
}
