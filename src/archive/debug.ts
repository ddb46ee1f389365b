/**
 * @module Repairs by hand: what a volume remembers is set to what an operator knows better. Nothing is taken that would
 * let the next step overwrite a backup.
 */
import { WalbError } from "../errors.ts";
import { baseImage } from "../image/image.ts";
import { parseState } from "../snapshot/text.ts";
import { allActions } from "./action.ts";
import type { SteadyState } from "./store.ts";
import type { ArchiveVolume, ArchiveVolumeState } from "./volume.ts";

/** Says which log diffs are taken from. */
export async function setLogUuid(volume: ArchiveVolume, uuid: string): Promise<void> {
  await repair(volume, ["Stopped"], "set the uuid", () => volume.store.setLogUuid(uuid));
}

/** Says what the base image holds. */
export async function setBase(volume: ArchiveVolume, text: string): Promise<void> {
  const base = parseState(text, Math.floor(volume.platform.clock.nowMs() / 1000), "base");
  if (base.from.gidE > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new WalbError("out-of-range", { what: `the gid ${base.from.gidE} cannot be`, where: { field: "base" } });
  }
  await repair(volume, ["Stopped"], "set the base", () => volume.store.setBase(base));
}

/** Says what state the volume is in. */
export async function setState(volume: ArchiveVolume, state: SteadyState): Promise<void> {
  const { store, images, name } = volume;
  const hasBase = store.base !== undefined && (await images.exists(baseImage(name)));
  if (state === "SyncReady" && store.base !== undefined) {
    throw new WalbError("state", {
      what: "the volume has a backup; as SyncReady the next full backup would overwrite it",
      where: { volume: name, field: "state" },
      hint: `delete its backups with: walb reset ${volume.at}`,
    });
  }
  if (state !== "SyncReady" && !hasBase) {
    throw new WalbError("state", {
      what: `the volume has no backup, so it cannot be ${state}`,
      where: { volume: name },
    });
  }
  const { machine } = volume;
  machine.require(["SyncReady", "Stopped"], "set the state");
  machine.requireIdle(allActions, "set the state");
  if (state === machine.state) return;
  const transition = machine.begin(["SyncReady", "Stopped"], state === "Archived" ? "Start" : "Stop", "set the state");
  try {
    store.setState(state);
    transition.commit(state);
  } catch (error) {
    transition.rollback();
    throw error;
  }
  await volume.saveManifest();
}

async function repair(
  volume: ArchiveVolume,
  states: readonly ArchiveVolumeState[],
  what: string,
  change: () => void,
): Promise<void> {
  const { machine, log, name } = volume;
  machine.require(states, what);
  machine.requireIdle(allActions, what);
  const before = JSON.stringify(volume.store.manifest(), (_key, value: unknown) =>
    typeof value === "bigint" ? value.toString() : value,
  );
  change();
  await volume.saveManifest();
  log.warn("what the volume remembers was changed by hand", { volume: name, what, before });
}
