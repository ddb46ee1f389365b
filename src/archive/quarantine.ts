/** @module Files that cannot be used are moved to a directory of their own, never deleted. */
import type { ArchiveVolume } from "./volume.ts";

/** Where they go, in the volume's directory. */
export const quarantineName = "quarantine";

/** Moves a file of the volume's directory. */
export async function moveToQuarantine(volume: ArchiveVolume, fileName: string): Promise<void> {
  const { disk } = volume.platform;
  const directory = volume.pathOf(quarantineName);
  await disk.makeDirectory(directory);
  let to = `${directory}/${fileName}`;
  for (let i = 1; (await disk.info(to)) !== undefined; i++) to = `${directory}/${fileName}.${i}`;
  await disk.rename(volume.pathOf(fileName), to);
  await disk.syncDirectory(directory);
  await disk.syncDirectory(volume.directory);
}
