/** @module What to do when an archive volume is not in the state that a command needs. Pure. */
import type { ArchiveVolumeState } from "./volume.ts";

/** The next step as a sentence with the command. `server` is the archive's node id. */
export function archiveWayOut(
  volume: string,
  server: string,
  state: ArchiveVolumeState,
  needed: readonly ArchiveVolumeState[],
): string {
  const at = `${volume} --server ${server}`;
  const isFullBackup = needed.length === 1 && needed[0] === "SyncReady";
  switch (state) {
    case "SyncReady":
      return `it has no backup yet, make one: walb backup ${volume}`;
    case "Stopped":
      return `start it: walb start ${at}`;
    case "FullSync":
      return `it has a backup when the full backup is done, see walb status ${volume}`;
    case "Archived":
    case "HashSync":
    case "WdiffRecv":
    case "ReplSyncAsServer":
      return isFullBackup
        ? `the archive has backups of it: use a hash backup, walb backup ${volume} --hash; or delete them: ` +
            `walb stop ${at}; walb reset ${at}`
        : `stop it first: walb stop ${at}`;
    case "Resync":
      return `its image is being replaced by that of another archive, see walb status ${volume}`;
    default:
      return `try again in a moment; see walb status ${volume}`;
  }
}
