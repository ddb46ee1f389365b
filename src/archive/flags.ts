/**
 * @module Makes snapshots explicit or implicit: the mergeable flag of the diffs that start at them, which is part of a
 * diff's file name.
 *
 * Order: second name → fsync of the directory → row → first name removed. A start deletes the name that has no row.
 */
import { WalbError } from "../errors.ts";
import { diffFileName } from "../snapshot/filename.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { type ArchiveVolume, activeStates } from "./volume.ts";

/**
 * Changes the snapshots that can be changed.
 * @throws WalbError `not-found` at the end, when there were others: no diff starts at the newest one either.
 */
export async function setExplicit(volume: ArchiveVolume, gids: readonly bigint[], isExplicit: boolean): Promise<void> {
  const what = `${isExplicit ? "enable" : "disable"} a snapshot`;
  const { machine, store, name } = volume;
  machine.require(activeStates, what);
  machine.requireIdle(["Apply", "Merge"], what);
  // Neither may begin before all is renamed.
  const end = machine.beginAction("Merge");
  try {
    const unknown: bigint[] = [];
    for (const gid of gids) if (!(await changeOne(volume, gid, isExplicit))) unknown.push(gid);
    if (unknown.length === 0) return;
    const newest = store.base === undefined ? undefined : volume.latest().from.gidB;
    throw new WalbError("not-found", {
      what: `no diff starts at gid ${unknown.join(", ")}`,
      where: { volume: name, field: "gids" },
      hint:
        newest !== undefined && unknown.includes(newest)
          ? `gid ${newest} is the newest snapshot: it can be changed when the next diff has arrived`
          : `choose from: walb snapshots ${volume.at} --all`,
    });
  } finally {
    end();
  }
}

async function changeOne(volume: ArchiveVolume, gid: bigint, isExplicit: boolean): Promise<boolean> {
  const { store, platform } = volume;
  const found = store.set.withSnapshot(gid, isExplicit);
  if (found === undefined) return false;
  const pairs = found.changes.map(({ before, after }) => {
    const diff = store.diff(before);
    const renamed: StoredDiff = { ...diff, meta: after, fileName: diffFileName(after) };
    return { before: diff, after: renamed };
  });
  if (pairs.length === 0) return true;
  for (const { before, after } of pairs) {
    // One that a crash left, or that a reader still keeps: it is the same file.
    volume.pins.keep(after.fileName);
    await platform.disk.remove(volume.pathOf(after.fileName));
    await platform.disk.link(volume.pathOf(before.fileName), volume.pathOf(after.fileName));
  }
  await platform.disk.syncDirectory(volume.directory);
  store.renameDiffs(pairs);
  await volume.removeDiffFiles(pairs.map(({ before }) => before));
  return true;
}
