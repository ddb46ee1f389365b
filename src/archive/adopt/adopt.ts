/** @module Takes over volumes of the original's archive daemon: metadata, diffs and images in LVM; and gives them back. */

import { openDiffSet } from "../../diff/set.ts";
import { countRecords } from "../../diff/stats.ts";
import { WalbError } from "../../errors.ts";
import { baseImage, type ImageStore, snapshotImage } from "../../image/image.ts";
import { type LegacyArchiveVolume, readLegacyArchiveVolume, writeLegacyArchiveVolume } from "../../legacy/archive.ts";
import type { LegacyDiffFile } from "../../legacy/diffs.ts";
import type { Platform } from "../../platform/platform.ts";
import { stateText } from "../../snapshot/text.ts";
import { plainState, unsetSnapshot } from "../../snapshot/types.ts";
import { lbBytes, u64Max } from "../../units.ts";
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
import { baseHashesName } from "../base-hashes.ts";
import type { StoredDiff } from "../diff-rows.ts";
import { type Manifest, manifestName, manifestText, readManifest } from "../manifest.ts";
import { hasDiffs, requireAgreement } from "../plausible.ts";
import { quarantineName } from "../quarantine.ts";
import { ArchiveStore } from "../store.ts";

const zeroUuid = "0".repeat(32);

/** Where. */
export interface ArchiveAdoptParts {
  readonly platform: Platform;
  readonly directory: string;
  readonly volume: string;
  /** The volume group that the original used. */
  readonly images: ImageStore;
}

const placeOf = ({ platform, directory }: ArchiveAdoptParts): AdoptPlace => ({
  disk: platform.disk,
  databases: platform.databases,
  directory,
});

/** What adopting does; the original must not run. @throws WalbError naming file and field, `damaged` without an image. */
export async function planArchiveAdoption(parts: ArchiveAdoptParts): Promise<AdoptReport> {
  if (await isOurs(placeOf(parts))) return takenOver(parts.volume);
  const found = await readLegacyArchiveVolume(parts.platform.disk, parts.directory);
  return reportOf(parts, found, await sizeOf(parts, found));
}

/** Takes a volume over. Can be repeated after it broke off. */
export async function adoptArchiveVolume(parts: ArchiveAdoptParts): Promise<AdoptReport> {
  const { platform, directory } = parts;
  const place = placeOf(parts);
  if (await isOurs(place)) return finishAdoption(place, parts.volume, isOriginalFile);
  const found = await readLegacyArchiveVolume(platform.disk, directory);
  const sizeLb = await sizeOf(parts, found);
  await platform.disk.remove(`${directory}/${baseHashesName}`);
  const diffs: StoredDiff[] = [];
  for (const file of found.diffs) diffs.push(await storedDiffOf(platform, directory, file));
  const manifest = manifestOf(parts, found, sizeLb, diffs);
  // Before the database: alone it says nothing that is wrong.
  await platform.disk.writeSmall(`${directory}/${manifestName}`, new TextEncoder().encode(manifestText(manifest)));
  await placeDatabase(place, async (aside) => {
    const store = ArchiveStore.create(platform.databases, aside, manifest);
    try {
      for (const diff of diffs) store.addDiff(diff);
      const { fullRepl } = found;
      if (fullRepl !== undefined && found.archiveUuid !== zeroUuid) {
        const { state: base, progressLb: doneLb } = fullRepl;
        store.fullCopy.set({ archiveUuid: found.archiveUuid, base, sizeLb, doneLb: Math.min(doneLb, sizeLb) });
      }
    } finally {
      store.close();
    }
  });
  await finishAdoption(place, parts.volume, isOriginalFile);
  return reportOf(parts, found, sizeLb);
}

/** Gives a volume back to the original. @throws WalbError `state` when it could not use it as it is. */
export async function releaseArchiveVolume(parts: ArchiveAdoptParts): Promise<AdoptReport> {
  const { platform, directory, volume } = parts;
  if (!(await isOurs(placeOf(parts)))) return givenBack(volume);
  const manifest = await readManifest(platform.disk, directory, volume);
  const store = ArchiveStore.open(platform.databases, directory, volume);
  let back: Omit<LegacyArchiveVolume, "diffs" | "leftovers">;
  try {
    // What an old copy of the database says, the original would believe.
    if (manifest !== undefined) {
      const claims = { store, manifest, hasDiffs: await hasDiffs(platform.disk, directory) };
      requireAgreement(claims, volume, directory);
    }
    if (store.resyncFile !== undefined || store.isResetting) {
      throw notBack(volume, "its image is being rewritten", "start the archive, and stop it when that has ended");
    }
    if (store.losses.length > 0) {
      const hint = "look at them with walb status; a hash backup makes the volume whole";
      throw notBack(volume, `diffs are missing, which walb-tools would answer by deleting all behind them`, hint);
    }
    const copy = store.fullCopy.get();
    const nowS = Math.floor(platform.clock.nowMs() / 1000);
    back = {
      state: store.state,
      uuid: store.logUuid ?? zeroUuid,
      archiveUuid: copy?.archiveUuid ?? store.archiveUuid ?? zeroUuid,
      base: store.base ?? plainState(unsetSnapshot, nowS),
      colds: store.colds.all,
      fullRepl: copy === undefined ? undefined : { state: copy.base, progressLb: copy.doneLb, timestampS: nowS },
    };
  } finally {
    store.close();
  }
  const quarantine = `${directory}/${quarantineName}`;
  if ((await platform.disk.info(quarantine)) !== undefined && (await platform.disk.list(quarantine)).length > 0) {
    throw notBack(volume, `there are files in ${quarantine}`, "look at them, and move them away");
  }
  // The original writes to the image and says nothing to the hashes: they go before it can.
  await platform.disk.remove(`${directory}/${baseHashesName}`);
  await platform.disk.syncDirectory(directory);
  await writeLegacyArchiveVolume(platform.disk, directory, back);
  await removeOurs(placeOf(parts), [quarantineName, manifestName]);
  const found = await readLegacyArchiveVolume(platform.disk, directory);
  return reportOf(parts, found, await sizeOf(parts, found));
}

const isOriginalFile = (name: string): boolean =>
  ["state", "base", "uuid", "archive_uuid", "full_repl_state"].includes(name) || /^\d+\.cold$/.test(name);

/**
 * Size of the base image, or of the cold one that was taking its place when the original ended: our start finishes that. The
 * original knows no other size. @throws WalbError `damaged` when both are missing.
 */
async function sizeOf({ images, volume }: ArchiveAdoptParts, found: LegacyArchiveVolume): Promise<number> {
  const image = baseImage(volume);
  const promoting = (await images.list(volume)).find(({ kind }) => kind === "promoting");
  for (const one of promoting === undefined ? [image] : [image, promoting]) {
    if (await images.exists(one)) return Math.floor((await images.sizeBytes(one)) / lbBytes);
  }
  if (found.state === "SyncReady") return 0;
  throw new WalbError("damaged", {
    what: `the base image is missing: there is no ${images.pathOf(image)}`,
    where: { volume },
    hint: "name the volume group, and the thin pool, that the original was started with: --images lvm:VG[/POOL]",
  });
}

function manifestOf(
  { volume }: ArchiveAdoptParts,
  found: LegacyArchiveVolume,
  sizeLb: number,
  diffs: readonly StoredDiff[],
): Manifest {
  const given = (uuid: string): string | undefined => (uuid === zeroUuid ? undefined : uuid);
  const hasBase = found.base.from.gidB !== u64Max && found.state !== "SyncReady";
  return {
    volume,
    state: found.state,
    sizeLb: hasBase ? sizeLb : 0,
    logUuid: given(found.uuid),
    archiveUuid: hasBase ? given(found.archiveUuid) : undefined,
    base: hasBase ? found.base : undefined,
    diffUuids: [
      ...new Set([...diffs.map(({ uuid }) => uuid), ...(given(found.uuid) === undefined ? [] : [found.uuid])]),
    ],
    labels: [],
    colds: hasBase ? found.colds : [],
    lastSyncMs: undefined,
  };
}

async function storedDiffOf(
  platform: Platform,
  directory: string,
  { name, meta }: LegacyDiffFile,
): Promise<StoredDiff> {
  const set = await openDiffSet(platform, [`${directory}/${name}`]);
  try {
    const uuid = Buffer.from(set.uuid).toString("hex");
    return { fileName: name, meta, uuid, contentLb: countRecords(set.records, 0, set.records.count).normalLb };
  } finally {
    await set.close();
  }
}

async function reportOf(
  { images, volume }: ArchiveAdoptParts,
  found: LegacyArchiveVolume,
  sizeLb: number,
): Promise<AdoptReport> {
  const bytes = found.diffs.reduce((sum, { meta }) => sum + meta.dataSizeBytes, 0);
  const missing: string[] = [];
  for (const { gid } of found.colds) {
    if (await images.exists(snapshotImage(volume, "cold", gid))) continue;
    missing.push(`the cold image of gid ${gid} is not in ${images.kind}; the point is restored from the base`);
  }
  return {
    volume,
    state: found.state,
    facts: [
      found.state === "SyncReady"
        ? "no backup yet"
        : `image ${images.pathOf(baseImage(volume))}, ${sizeLb} LB, state ${stateText(found.base)}`,
      `${found.diffs.length} diffs, ${bytes} bytes`,
      ...(found.colds.length === 0 ? [] : [`${found.colds.length} cold images`]),
      ...(found.fullRepl === undefined ? [] : [`a full replication goes on at ${found.fullRepl.progressLb} LB`]),
    ],
    warnings: [
      ...missing,
      ...found.leftovers.map((name) => `${name} is nothing an archive knows; it stays where it is`),
    ],
  };
}
