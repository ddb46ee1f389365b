/** @module Plans about which storage ships a volume: standby, preparing a backup, switching the target. Pure. */
import type { DeviceReference } from "../../control/storage.ts";
import { WalbError } from "../../errors.ts";
import type { FleetServer } from "../fleet.ts";
import { behind, feedPrimary } from "./plan-archives.ts";
import type { Step } from "./step.ts";
import {
  archiveAt,
  entryOf,
  gidOf,
  imageStates,
  requireAll,
  type StorageView,
  storageAt,
  targetStates,
  type VolumeView,
} from "./view.ts";

/**
 * A storage only keeps the log of a volume free. What a target has logged goes to the archive first, unless forced.
 * @throws WalbError `not-found`, `state`.
 */
export function planStandby(view: VolumeView, name: string, isForced: boolean, device?: DeviceReference): Step[] {
  const { volume, primary } = view;
  const { server: at, volume: known, proxies } = storageAt(view, name);
  const step = (action: Step["action"], why: string): Step => ({ at, volume, action, why });
  const toStandby = step({ kind: "start-standby" }, "it is to keep its log free without shipping it");
  switch (known.state) {
    case "Standby":
      return [];
    case "SyncReady":
      return [toStandby];
    case "Stopped":
      return [step({ kind: "reset" }, "it is a stopped target: its log begins anew"), toStandby];
    case "Target": {
      const settle = step(
        { kind: "settle", archive: primary },
        "what it has logged must not be missing in the backups",
      );
      const mode = isForced ? "force" : "graceful";
      return [
        ...(isForced || known.isOverflow === true
          ? []
          : [...(isOnItsWay(view, proxies) ? [] : feedPrimary(view)), settle]),
        step({ kind: "stop", mode }, "it is the target"),
        step({ kind: "reset" }, "its log begins anew"),
        toStandby,
      ];
    }
    case "FullSync":
    case "HashSync":
      if (isForced) return [step({ kind: "stop", mode: "force" }, "it takes a backup"), toStandby];
      throw new WalbError("state", {
        what: `it is taking a backup (state ${known.state})`,
        where: { host: at.name, volume },
        hint: "wait for its end, or give it up with --force",
      });
    case "Clear": {
      if (device === undefined) {
        throw new WalbError("not-found", {
          what: "the storage does not know this volume",
          where: { host: at.name, volume },
          hint: `say which device it is there: walb standby ${volume} --server ${at.name} --device NAME`,
        });
      }
      return [step({ kind: "init-storage", device }, `${at.name} does not know ${volume}`), toStandby];
    }
    default:
      throw new WalbError("state", {
        what: `it cannot become a standby in state ${known.state}`,
        where: { host: at.name, volume },
        hint: `look with: walb status ${volume}`,
      });
  }
}

/** True when one of the proxies that a storage ships to brings what it gets to the primary archive. */
function isOnItsWay(view: VolumeView, addresses: readonly string[]): boolean {
  return view.proxies.some(
    (proxy) =>
      addresses.includes(proxy.server.address) &&
      proxy.volume.state !== "Stopped" &&
      entryOf(proxy, view.primary) !== undefined,
  );
}

export type BackupMode = "full" | "hash";

export interface PrepareOptions {
  /** Somebody asked for this kind of backup: what is in its way at the storage is stopped and reset. */
  readonly asked?: BackupMode | undefined;
  /** It is the command that asked, not somebody: nothing is given up where another way would keep it. */
  readonly isOwnChoice?: boolean;
}

/**
 * What must be so before a backup: no other storage ships the volume, this one is ready, the archive has a place, and the
 * proxies feed it.
 * @throws WalbError `not-found`, `state` naming the way out.
 */
export function planPrepareBackup(view: VolumeView, name: string, options: PrepareOptions): Step[] {
  const { asked } = options;
  const { volume, primary } = view;
  const { server: at, volume: known } = storageAt(view, name);
  if (known.state === "Clear") {
    throw new WalbError("not-found", {
      what: "the storage does not know this volume",
      where: { host: at.name, volume },
      hint: `put it under backup first: walb init ${volume} --device NAME`,
    });
  }
  const other = view.storages.find(
    (storage) => storage.server.name !== name && [...targetStates, "Stopped"].includes(storage.volume.state),
  );
  if (other !== undefined) {
    throw new WalbError("state", {
      what: `${volume} is ${other.volume.state} at storage ${other.server.name}; two storages must not ship one volume`,
      where: { volume },
      hint: `switch: walb switch ${volume} --to ${name}; or first: walb standby ${volume} --server ${other.server.name}`,
    });
  }
  // An archive that only the storage can reach says itself what it lacks, where nothing is given up for it before.
  const givesUp = known.state === "Target" || (known.state === "Stopped" && known.isOverflow !== true);
  const silent = view.missing.find(({ server }) => server.name === primary.name);
  if (asked !== undefined && givesUp && silent !== undefined) {
    const where = `${volume} --server ${name}`;
    throw new WalbError(silent.error.code, {
      what: `the log is not given up for a backup to an archive that does not answer: ${silent.error.what}`,
      where: silent.error.where,
      hint: `see whether it runs; where only the storage can reach it: walb stop ${where}; walb reset ${where}; walb backup ${where} --${asked}`,
    });
  }
  const archive = view.archives.find(({ server }) => server.name === primary.name)?.volume;
  const state = archive?.state;
  if (asked !== undefined && archive !== undefined) requireTaken(view, asked, archive);
  if (options.isOwnChoice === true) requireNoOther(view);
  const unreadable = archive?.trouble?.code === "unreadable" ? archive.trouble : undefined;
  if (asked === "hash" && givesUp && unreadable !== undefined) {
    throw new WalbError("state", {
      what: `the log is not given up for a backup that the archive cannot compare: ${unreadable.message}`,
      where: { host: primary.name, volume },
      hint: `${unreadable.hint ?? `look with: walb status ${volume}`}; then ask for the backup again`,
    });
  }
  const steps: Step[] = [];
  const add = (action: Step["action"], why: string, server = at): void => {
    steps.push({ at: server, volume, action, why });
  };
  if (known.state === "Standby") add({ kind: "stop", mode: "graceful" }, "it is a standby");
  if (known.state === "Stopped") {
    if (asked === undefined && known.isOverflow !== true) {
      throw new WalbError("state", {
        what: "the volume is stopped, and its log has everything that is missing: no backup is needed",
        where: { host: at.name, volume },
        hint: `walb start ${volume}; for a backup all the same: walb backup ${volume} --hash`,
      });
    }
    add({ kind: "reset" }, known.isOverflow === true ? "its log has overflowed" : "its log is given up for the backup");
  }
  if (known.state === "Target" && asked !== undefined) {
    add({ kind: "stop", mode: "graceful" }, "it is the target already");
    add({ kind: "reset" }, "its log is given up for the backup");
  }
  if (state === "Clear") add({ kind: "init-archive" }, `${primary.name} does not know ${volume}`, primary);
  return [...steps, ...feedPrimary(view)];
}

/** The log is not given up for a backup that the archive is going to refuse. @throws WalbError `state`. */
function requireTaken({ volume, primary }: VolumeView, asked: BackupMode, { state }: { readonly state: string }): void {
  const refuse = (what: string, hint: string): never => {
    throw new WalbError("state", { what, where: { host: primary.name, volume }, hint });
  };
  const at = `${volume} --server ${primary.name}`;
  if (imageStates.includes(state)) {
    if (asked === "hash") return;
    refuse(
      "the archive has backups of the volume, a full backup would begin without them",
      `compare with them: walb backup ${volume} --hash; or delete them first: walb stop ${at}; walb reset ${at}`,
    );
  }
  if (state === "SyncReady" || state === "Clear") {
    if (asked === "full") return;
    refuse("the archive has no backup of the volume to compare with", `walb backup ${volume} --full`);
  }
  const hint = state === "Stopped" ? `start it there: walb start ${at}` : `look with: walb status ${volume}`;
  refuse(`the archive takes no backup in state ${state}`, hint);
}

/** Another archive that has the backups can fill the primary one, and no log is given up. @throws WalbError `state`. */
function requireNoOther({ volume, primary, archives }: VolumeView): void {
  const other = archives.find(
    ({ server, volume: { state } }) => server.name !== primary.name && imageStates.includes(state),
  );
  if (other === undefined) return;
  const { name } = other.server;
  throw new WalbError("state", {
    what: `the archive has no backup of the volume any more, but ${name} has`,
    where: { host: primary.name, volume },
    hint: `fill it from there: walb replicate ${volume} --server ${name} --to ${primary.name}; or begin anew without them: walb backup ${volume} --full`,
  });
}

/**
 * Archives besides the primary that a new backup must be replicated to, since proxies feed them only with what follows.
 * @param doneGid the storage has delivered up to here: only archives that do not have that.
 */
export function planAfterBackup(view: VolumeView, doneGid?: bigint): Step[] {
  return view.archives.flatMap(({ server: to, volume: known }): Step[] => {
    if (to.name === view.primary.name || !imageStates.includes(known.state)) return [];
    const proxies = view.proxies.filter((proxy) => entryOf(proxy, to) !== undefined).map(({ server }) => server);
    if (proxies.length === 0 || (doneGid !== undefined && gidOf(known) >= doneGid)) return [];
    const why = `proxies feed ${to.name} only with what comes after the backup`;
    return [{ at: view.primary, volume: view.volume, action: { kind: "catch-up", to, proxies }, why }];
  });
}

/**
 * What is left of a backup that somebody began: its end, and the archives that it left behind.
 * @returns no steps when all is done; undefined when a backup is yet to begin. @throws WalbError that the storage did not answer.
 */
export function planGoOn(view: VolumeView, name: string): Step[] | undefined {
  const { volume, primary } = view;
  const { server: at, volume: known } = storageAt(view, name);
  const settle: Step = { at, volume, action: { kind: "settle", archive: primary }, why: "others get it from there" };
  if (known.state === "Target") {
    const cutOff = planAfterBackup(view, known.doneGid);
    return cutOff.length === 0 ? [] : [settle, ...cutOff];
  }
  if (known.state !== "FullSync" && known.state !== "HashSync") return undefined;
  const after = planAfterBackup(view);
  const wait: Step = { at, volume, action: { kind: "await-sync" }, why: `it is ${known.state} already` };
  return after.length === 0 ? [wait] : [wait, settle, ...after];
}

export interface SwitchOptions {
  readonly isForced: boolean;
  /** Of the volume at the new storage, when it does not know the volume; default: as at the old one. */
  readonly device?: DeviceReference | undefined;
}

/** Another storage becomes the one that ships a volume, and the old one a standby. @throws WalbError `state`. */
export function planSwitch(view: VolumeView, to: FleetServer, { isForced, device }: SwitchOptions): Step[] {
  const { volume, primary } = view;
  requireAll(view, ["proxy", "archive"], view.archives.length > 0 ? notPrimary(view) : []);
  const next = storageAt(view, to.name);
  const olds = view.storages.filter(
    (storage) => storage.server.name !== to.name && [...targetStates, "Stopped"].includes(storage.volume.state),
  );
  if (olds.length === 0 || next.volume.state !== "Target") {
    const rest = planGoOn(view, to.name);
    if (rest !== undefined) return rest;
  }
  const after = planAfterBackup(view);
  const steps = sendThere(view, next, olds);
  if (next.volume.state === "Clear") {
    const found = device ?? olds[0]?.volume.device ?? deviceElsewhere(view, next);
    if (found === undefined) {
      throw new WalbError("usage", {
        what: `${to.name} does not know ${volume}, and it is not said which device it is there`,
        where: { volume },
        hint: `add --device NAME`,
      });
    }
    // A socket is a path on the other host.
    const there: DeviceReference = device ?? { kind: found.kind, name: found.name };
    const action = { kind: "init-storage", device: there } as const;
    // Before the old one stops: a device that is not there is found out while nothing is changed.
    steps.push({ at: to, volume, action, why: `${to.name} does not know ${volume}` });
  }
  steps.push(...olds.flatMap(({ server }) => planStandby(view, server.name, isForced)));
  const idle = view.storages.map((storage) =>
    olds.includes(storage) ? { ...storage, volume: { ...storage.volume, state: "Standby" } } : storage,
  );
  const ready = idle.map((storage) =>
    storage.server.name === to.name && storage.volume.state === "Clear"
      ? { ...storage, volume: { ...storage.volume, state: "SyncReady" } }
      : storage,
  );
  const mode = imageStates.includes(archiveAt(view, primary.name).volume.state) ? "hash" : "full";
  steps.push(...planPrepareBackup({ ...behind(view, steps), storages: ready }, to.name, { asked: mode }));
  const why = mode === "hash" ? "the archive has an image to compare with" : "the archive has no image yet";
  const archive = after.length === 0 ? {} : { archive: primary };
  steps.push({ at: to, volume, action: { kind: "backup", mode, ...archive }, why });
  return [...steps, ...after];
}

/** A storage that was started with other peers sends where the one before it did: the archive takes what the proxies bring. */
function sendThere({ primary, proxies }: VolumeView, next: StorageView, olds: readonly StorageView[]): Step[] {
  const steps: Step[] = [];
  const add = (action: Step["action"], why: string): void => {
    steps.push({ at: next.server, volume: "", action, why });
  };
  if (next.archive !== primary.address) {
    add({ kind: "set-archive", archive: primary }, `its backups go to ${next.archive}`);
  }
  const addresses = olds[0]?.proxies ?? proxies.map(({ server }) => server.address);
  const strange = next.proxies.filter((address) => !addresses.includes(address));
  if (addresses.length > 0 && (strange.length > 0 || next.proxies.length === 0)) {
    add({ kind: "set-proxies", addresses }, `it ships to ${strange.join(", ") || "no proxy"}`);
  }
  return steps;
}

function deviceElsewhere(view: VolumeView, but: StorageView): DeviceReference | undefined {
  return view.storages.find((storage) => storage !== but && storage.volume.device !== undefined)?.volume.device;
}

function notPrimary(view: VolumeView): string[] {
  return view.missing.map(({ server }) => server.name).filter((name) => name !== view.primary.name);
}
