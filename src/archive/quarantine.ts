/** @module Files that cannot be used are moved to a directory of their own, never deleted. */
import { WalbError } from "../errors.ts";
import type { ArchiveVolume } from "./volume.ts";

/** Where they go, in the volume's directory. */
export const quarantineName = "quarantine";
/** In there, those that nobody misses: no diffs, or none of the volume. */
const unknownName = `${quarantineName}/unknown`;
/** Named in a message. */
const namedMax = 4;

/** Moves a file of the volume's directory. */
export function moveToQuarantine(volume: ArchiveVolume, fileName: string): Promise<void> {
  return move(volume, fileName, quarantineName);
}

/** As {@link moveToQuarantine}, of a file that nobody misses. */
export function moveToUnknown(volume: ArchiveVolume, fileName: string): Promise<void> {
  return move(volume, fileName, unknownName);
}

async function move(volume: ArchiveVolume, fileName: string, name: string): Promise<void> {
  const { disk } = volume.platform;
  const directory = volume.pathOf(name);
  await disk.makeDirectory(directory);
  let to = `${directory}/${fileName}`;
  for (let i = 1; (await disk.info(to)) !== undefined; i++) to = `${directory}/${fileName}.${i}`;
  await disk.rename(volume.pathOf(fileName), to);
  await disk.syncDirectory(directory);
  await disk.syncDirectory(volume.directory);
}

/** What is told of files that nobody misses, for as long as they are there. */
export async function unknownFiles(volume: ArchiveVolume): Promise<WalbError | undefined> {
  const { disk } = volume.platform;
  const directory = volume.pathOf(unknownName);
  if ((await disk.info(directory))?.kind !== "directory") return undefined;
  const names = await disk.list(directory);
  if (names.length === 0) return undefined;
  const more = names.length > namedMax ? ` and ${names.length - namedMax} more` : "";
  return new WalbError("unsupported", {
    what: `files that are no diffs of the volume were among its diffs, and were moved aside: ${names.slice(0, namedMax).join(", ")}${more}`,
    where: { volume: volume.name, file: directory },
    hint: `nothing needs them; look at them, move away what is yours, and delete the rest: rm -r ${directory}`,
  });
}
