/** @module Volumes of a proxy whose database is gone while diffs wait in their directory: told, and how to get them back. */
import { WalbError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";
import { diffFileSuffix } from "../snapshot/filename.ts";
import { volumeDatabaseName } from "../volume/database.ts";
import { type BrokenVolume, isVolumeId } from "../volume/directories.ts";

/** Finds directories without a database that hold diffs. Nothing is changed. */
export async function findLost(
  disk: Disk,
  dataDir: string,
  hasDatabase: (path: string) => boolean,
): Promise<BrokenVolume[]> {
  const lost: BrokenVolume[] = [];
  for (const volume of await disk.list(dataDir)) {
    const directory = `${dataDir}/${volume}`;
    if (!isVolumeId(volume) || hasDatabase(`${directory}/${volumeDatabaseName}`)) continue;
    // What may not be looked at is told as a volume that cannot be opened.
    const count = await countDiffs(disk, `${directory}/diffs`).catch(() => 0);
    if (count === 0) continue;
    const error = new WalbError("damaged", {
      what: `the volume's database is gone, and ${count} diffs that may not have been sent are there`,
      where: { volume, file: `${directory}/${volumeDatabaseName}` },
      hint: `make it known again, the diffs are taken over: walb init ${volume} --device NAME`,
    });
    lost.push({ volume, error });
  }
  return lost;
}

async function countDiffs(disk: Disk, root: string): Promise<number> {
  if ((await disk.info(root))?.kind !== "directory") return 0;
  let count = 0;
  for (const uuid of await disk.list(root)) {
    if ((await disk.info(`${root}/${uuid}`))?.kind !== "directory") continue;
    count += (await disk.list(`${root}/${uuid}`)).filter((name) => name.endsWith(diffFileSuffix)).length;
  }
  return count;
}
