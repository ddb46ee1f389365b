/** @module Takes over volumes of the original's storage daemon, and gives them back. */
import type { DeviceReference } from "../../control/storage.ts";
import { WalbError } from "../../errors.ts";
import { type LegacyStorageVolume, readLegacyStorageVolume, writeLegacyStorageVolume } from "../../legacy/storage.ts";
import type { Platform } from "../../platform/platform.ts";
import type { LogPoint } from "../../snapshot/split.ts";
import { u64Max } from "../../units.ts";
import {
  type AdoptPlace,
  type AdoptReport,
  finishAdoption,
  givenBack,
  isOurs,
  notBack,
  placeDatabase,
  removeOurs,
  takenOver,
} from "../../volume/adopt.ts";
import type { LsidGid } from "../../wire/meta.ts";
import { StorageStore } from "../store.ts";

const isOriginalFile = (name: string): boolean => ["state", "done", "queue", "uuid", "path"].includes(name);
const zeroUuid = "0".repeat(32);

/** Where and how. */
export interface StorageAdoptParts {
  readonly platform: Platform;
  readonly directory: string;
  readonly volume: string;
  /** Whose device `/dev/walb/NAME` is now. */
  readonly deviceKind: DeviceReference["kind"];
}

const placeOf = ({ platform, directory }: StorageAdoptParts): AdoptPlace => ({
  disk: platform.disk,
  databases: platform.databases,
  directory,
});

/** What adopting does. @throws WalbError `locked` while the original runs, `bad-format` naming file and field. */
export async function planStorageAdoption(parts: StorageAdoptParts): Promise<AdoptReport> {
  if (await isOurs(placeOf(parts))) return takenOver(parts.volume);
  const found = await readLegacyStorageVolume(parts.platform, parts.directory);
  return reportOf(parts, found);
}

/** Takes a volume over. Can be repeated after it broke off. */
export async function adoptStorageVolume(parts: StorageAdoptParts): Promise<AdoptReport> {
  const place = placeOf(parts);
  if (await isOurs(place)) return finishAdoption(place, parts.volume, isOriginalFile);
  const found = await readLegacyStorageVolume(parts.platform, parts.directory);
  const report = reportOf(parts, found);
  const { done, queue } = pointsOf(found);
  await placeDatabase(place, async (aside) => {
    StorageStore.adopt(place.databases, aside, parts.volume, {
      device: deviceOf(parts, found),
      state: found.state,
      logUuid: found.uuid === zeroUuid ? undefined : found.uuid,
      done,
      queue,
    }).close();
  });
  await finishAdoption(place, parts.volume, isOriginalFile);
  return report;
}

/** Gives a volume back to the original. @throws WalbError `state` when it could not use it. */
export async function releaseStorageVolume(parts: StorageAdoptParts): Promise<AdoptReport> {
  const { platform, directory, volume } = parts;
  if (!(await isOurs(placeOf(parts)))) return givenBack(volume);
  const store = StorageStore.open(platform.databases, directory, volume);
  let back: LegacyStorageVolume;
  try {
    if (store.device.kind !== "kernel") {
      throw notBack(
        volume,
        `its device ${store.device.name} is one of walb device`,
        "move the device to the kernel driver first, see docs/operations",
      );
    }
    const unset: LsidGid = { lsid: undefined, gid: u64Max, isMergeable: false, timestampS: nowS(platform) };
    back = {
      devicePath: `/dev/walb/${store.device.name}`,
      state: store.state,
      uuid: store.logUuid ?? zeroUuid,
      done: store.done ?? unset,
      queue: store.queue.toReversed(),
    };
  } finally {
    store.close();
  }
  await writeLegacyStorageVolume(platform.disk, platform.random, directory, back);
  await removeOurs(placeOf(parts), []);
  return { ...reportOf(parts, back), warnings: [] };
}

function nowS({ clock }: Platform): number {
  return Math.floor(clock.nowMs() / 1000);
}

function reportOf(parts: StorageAdoptParts, found: LegacyStorageVolume): AdoptReport {
  const { done, queue } = pointsOf(found);
  const device = deviceOf(parts, found);
  return {
    volume: parts.volume,
    state: found.state,
    facts: [
      `device ${found.devicePath}, of ${device.kind === "kernel" ? "the kernel driver" : "walb device"}`,
      done === undefined ? "no backup yet" : `delivered up to gid ${done.gid}, lsid ${done.lsid}`,
      `${queue.length} snapshots to be delivered`,
    ],
    warnings: [],
  };
}

function deviceOf({ deviceKind, directory }: StorageAdoptParts, found: LegacyStorageVolume): DeviceReference {
  const match = /^\/dev\/walb\/([^/\0]{1,25})$/.exec(found.devicePath);
  if (match?.[1] !== undefined) return { kind: deviceKind, name: match[1] };
  throw new WalbError("unsupported", {
    what: `${found.devicePath} is no path of a walb device`,
    where: { file: `${directory}/path`, field: "path" },
    hint: "walb devices are /dev/walb/NAME with at most 25 characters of name",
  });
}

/** Delivered point and what is to be delivered, oldest first; what `done` has passed is left out. */
function pointsOf(found: LegacyStorageVolume): { readonly done: LogPoint | undefined; readonly queue: LogPoint[] } {
  const done = pointOf(found.done);
  const queue = found.queue.flatMap((record) => pointOf(record) ?? []).toReversed();
  return { done, queue: queue.filter((point) => done === undefined || point.gid > done.gid) };
}

function pointOf({ lsid, gid, isMergeable, timestampS }: LsidGid): LogPoint | undefined {
  return lsid === undefined ? undefined : { lsid, gid, isMergeable, timestampS };
}
