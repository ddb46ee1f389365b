/** @module What all servers of a fleet say of one volume at this moment: what procedures are planned from. */
import type { ArchiveVolume } from "../../control/archive-schemas.ts";
import type { ArchiveEntry, ProxyVolume } from "../../control/proxy.ts";
import type { StorageVolume } from "../../control/storage.ts";
import { WalbError } from "../../errors.ts";
import type { FleetServer } from "../fleet.ts";

export interface StorageView {
  readonly server: FleetServer;
  readonly volume: StorageVolume;
  /** Where it takes backups to, and ships logs to, as it knows them. */
  readonly archive: string;
  readonly proxies: readonly string[];
}

export interface ProxyView {
  readonly server: FleetServer;
  readonly volume: ProxyVolume;
}

export interface ArchiveView {
  readonly server: FleetServer;
  readonly volume: ArchiveVolume;
}

/** A server that did not answer, and why. */
export interface Missing {
  readonly server: FleetServer;
  readonly error: WalbError;
}

/** One volume everywhere. A server that does not know it has state `Clear`. */
export interface VolumeView {
  readonly volume: string;
  /** The archive that backups go to, also when it does not answer. */
  readonly primary: FleetServer;
  readonly storages: readonly StorageView[];
  readonly proxies: readonly ProxyView[];
  readonly archives: readonly ArchiveView[];
  readonly missing: readonly Missing[];
}

/** States of an archive that has an image and takes diffs. */
export const imageStates: readonly string[] = ["Archived", "WdiffRecv", "ReplSyncAsServer"];
/** States of a storage whose writes are shipped, or are going to be. */
export const targetStates: readonly string[] = ["Target", "FullSync", "HashSync"];

/** The entry of an archive at a proxy. */
export function entryOf({ volume }: ProxyView, archive: FleetServer): ProxyVolume["archives"][number] | undefined {
  return volume.archives.find(({ archiveName }) => archiveName === archive.name);
}

/** Gid of the newest point an archive can restore; -1 for none. */
export function gidOf({ newestPoint }: Pick<ArchiveVolume, "newestPoint">): bigint {
  return newestPoint?.gid ?? -1n;
}

/** Newest gid that the primary archive has, or will have when what waits for it at the proxies is delivered. */
export function gidOnItsWay({ primary, proxies, archives }: VolumeView): bigint {
  const known = archives.find(({ server }) => server.name === primary.name);
  const waiting = proxies.flatMap((proxy) => entryOf(proxy, primary)?.latestGid ?? []);
  return waiting.reduce((a, b) => (b > a ? b : a), known === undefined ? -1n : gidOf(known.volume));
}

/** How an archive is reached with a volume: like those that the proxies have already. */
export function settingsOf(view: VolumeView): Pick<ArchiveEntry, "compression" | "delayS"> | undefined {
  return view.proxies.flatMap(({ volume }) => volume.archives)[0];
}

/** A storage by name. @throws WalbError that it did not answer, or is none. */
export function storageAt(view: VolumeView, name: string): StorageView {
  return found(
    view,
    view.storages.find(({ server }) => server.name === name),
    name,
    "storage",
  );
}

/** An archive by name. @throws WalbError that it did not answer, or is none. */
export function archiveAt(view: VolumeView, name: string): ArchiveView {
  return found(
    view,
    view.archives.find(({ server }) => server.name === name),
    name,
    "archive",
  );
}

/** @throws WalbError `unreachable` when one of these servers did not answer: half of a procedure is of no use. */
export function requireAll(
  view: VolumeView,
  roles: readonly FleetServer["role"][],
  except: readonly string[] = [],
): void {
  const away = view.missing.find(({ server }) => roles.includes(server.role) && !except.includes(server.name));
  if (away !== undefined) throw away.error;
}

function found<View>(view: VolumeView, at: View | undefined, name: string, role: string): View {
  if (at !== undefined) return at;
  const away = view.missing.find(({ server }) => server.name === name);
  if (away !== undefined) throw away.error;
  throw new WalbError("usage", {
    what: `the fleet has no ${role} ${JSON.stringify(name)}`,
    hint: `add it to walb.toml: [servers.${name}] role = "${role}" address = "host:port"`,
  });
}
