/** @module What to do when a storage volume is not in the state that a command needs. Pure. */
import type { StorageState } from "./volume.ts";

/** The next step as a sentence with the command. `server` is the storage's node id. */
export function storageWayOut(
  volume: string,
  server: string,
  state: StorageState,
  needed: readonly StorageState[],
): string | undefined {
  const at = `${volume} --server ${server}`;
  switch (state) {
    case "SyncReady":
      return `its log is empty and not followed: back it up with walb backup ${volume}`;
    case "Stopped":
      return needed.includes("SyncReady")
        ? `empty its log first: walb reset ${at}; a new backup is needed then. Or follow it again: walb start ${volume}`
        : `start it: walb start ${volume}`;
    case "Target":
      if (needed.includes("Stopped")) return `stop it first: walb stop ${at}`;
      return `stop it and empty its log first: walb stop ${at}; walb reset ${at}; a new backup is needed then`;
    case "Standby":
      return needed.includes("Target")
        ? `it is a standby, ask the storage that ships the volume; or let this one ship it: walb switch ${volume} --to ${server}`
        : `stop it first: walb stop ${at}`;
    case "FullSync":
    case "HashSync":
      return `wait for the backup, see walb status ${volume}; or give it up: walb stop ${at} --force`;
    default:
      return `try again in a moment; see walb status ${volume}`;
  }
}
