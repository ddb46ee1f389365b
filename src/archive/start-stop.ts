/** @module Starting and stopping a volume of an archive: whether it takes diffs and backups. */
import { isUnwritable } from "../errors.ts";
import { type ArchiveVolume, type ArchiveVolumeState, activeStates } from "./volume.ts";

/** @throws WalbError `state` unless it is stopped. */
export async function startVolume(volume: ArchiveVolume): Promise<void> {
  volume.machine.requireNotStopping("start");
  const transition = volume.machine.begin(["Stopped"], "Start", "start");
  try {
    volume.store.setState("Archived");
    transition.commit("Archived");
  } catch (error) {
    transition.rollback();
    throw error;
  }
  await volume.saveManifest();
}

/** Graceful waits for what runs; force ends it, a full backup being received too (then it is SyncReady again). */
export async function stopVolume(
  volume: ArchiveVolume,
  mode: "graceful" | "force",
  signal: AbortSignal,
): Promise<void> {
  const { machine } = volume;
  machine.requireNotStopping("stop");
  const before: ArchiveVolumeState = machine.state;
  const isSyncing = before === "FullSync";
  if (!isSyncing || mode !== "force") machine.require(activeStates, "stop");
  machine.setStopState(mode === "force" ? "force-stopping" : "stopping");
  try {
    if (mode === "force") volume.interrupt();
    await machine.until(() => !machine.isInTransition && machine.running() === 0, signal);
    if (isSyncing && machine.state === "SyncReady") return;
    const transition = machine.begin(["Archived"], "Stop", "stop");
    try {
      volume.store.setState("Stopped");
      transition.commit("Stopped");
    } catch (error) {
      if (!isUnwritable(error)) {
        transition.rollback();
        throw error;
      }
      // Who stops it may want to reset or clear it, which makes room.
      transition.commit("Stopped");
      volume.log.warn("that the volume is stopped could not be noted: it is until the next start", { error });
      return;
    }
  } finally {
    machine.setStopState("not-stopping");
  }
  await volume.saveManifest();
}
