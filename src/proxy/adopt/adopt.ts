/** @module Takes over volumes of the original's proxy daemon with their diffs, and gives them back. */
import { entryOf, targetOf } from "../../control/legacy/proxy.ts";
import { openDiffSet } from "../../diff/set.ts";
import type { DiffIo } from "../../diff/types.ts";
import { WalbError } from "../../errors.ts";
import type { LegacyDiffFile } from "../../legacy/diffs.ts";
import { type LegacyProxyVolume, readLegacyProxyVolume, writeLegacyProxyVolume } from "../../legacy/proxy.ts";
import type { Platform } from "../../platform/platform.ts";
import {
  type AdoptPlace,
  type AdoptReport,
  finishAdoption,
  givenBack,
  isOurs,
  placeDatabase,
  removeOurs,
  takenOver,
} from "../../volume/adopt.ts";
import { ProxyStore } from "../store.ts";

/** Where. */
export interface ProxyAdoptParts {
  readonly platform: Platform;
  readonly directory: string;
  readonly volume: string;
}

/** A diff that some archives need. */
interface HeldDiff {
  readonly file: LegacyDiffFile;
  /** One of its links, relative to the directory. */
  readonly path: string;
  readonly archives: ReadonlySet<string>;
}

const placeOf = ({ platform, directory }: ProxyAdoptParts): AdoptPlace => ({
  disk: platform.disk,
  databases: platform.databases,
  directory,
});

/** What adopting does; the original must not run. @throws WalbError `bad-format` naming file and field. */
export async function planProxyAdoption(parts: ProxyAdoptParts): Promise<AdoptReport> {
  if (await isOurs(placeOf(parts))) return takenOver(parts.volume);
  return reportOf(parts.volume, await readLegacyProxyVolume(parts.platform.disk, parts.directory));
}

/** Takes a volume over. Can be repeated after it broke off. */
export async function adoptProxyVolume(parts: ProxyAdoptParts): Promise<AdoptReport> {
  const { platform, directory, volume } = parts;
  const { disk } = platform;
  const place = placeOf(parts);
  if (await isOurs(place)) return finish(place, volume);
  const found = await readLegacyProxyVolume(disk, directory);
  const held = heldDiffs(found);
  const placed = new Map<HeldDiff, { readonly uuid: string; readonly sizeBytes: number }>();
  for (const diff of held) placed.set(diff, await linkDiff(platform, directory, diff));
  await placeDatabase(place, async (aside) => {
    const store = ProxyStore.open(platform.databases, aside, volume, true);
    try {
      store.setSize(found.sizeLb);
      for (const { name, target } of found.archives) store.putArchive({ name, ...entryOf(target) });
      for (const [{ file, archives }, { uuid, sizeBytes }] of placed) {
        const { from, to, isMergeable, timestampS } = file.meta;
        const row = { fileName: file.name, uuid, fromGid: from.gidB, toGid: to.gidB, isMergeable, timestampS };
        store.addDiff({ ...row, sizeBytes, receivedMs: timestampS * 1000 }, found.sizeLb);
        const added = store.find(row);
        if (added === undefined) continue;
        for (const { name } of found.archives) if (!archives.has(name)) store.removeDeliveries(name, [added.id]);
      }
      if (found.archives.length > 0) store.setState("Started");
    } finally {
      store.close();
    }
  });
  await finish(place, volume);
  return reportOf(volume, found);
}

/** The links go: a diff that is delivered shall give its space back. */
async function finish(place: AdoptPlace, volume: string): Promise<AdoptReport> {
  for (const name of ["received", "sendto"]) await place.disk.removeTree(`${place.directory}/${name}`);
  return finishAdoption(place, volume, (name) => name === "size" || name.endsWith(".archive"));
}

/** Gives a volume back to the original, with the diffs that were not delivered. */
export async function releaseProxyVolume(parts: ProxyAdoptParts): Promise<AdoptReport> {
  const { platform, directory, volume } = parts;
  if (!(await isOurs(placeOf(parts)))) return givenBack(volume);
  const { disk } = platform;
  const store = ProxyStore.open(platform.databases, directory, volume, false);
  try {
    const { sizeLb, archives } = store;
    await writeLegacyProxyVolume(disk, directory, {
      sizeLb,
      archives: archives.map((row) => ({ name: row.name, target: targetOf(row) })),
    });
    for (const { name } of archives) {
      const directoryOf = `${directory}/sendto/${name}`;
      for (const { uuid, fileName } of store.pending(name)) {
        const ours = `${directory}/diffs/${uuid}/${fileName}`;
        // Given back before, and broken off while ours went: the link there is the only one.
        if ((await disk.info(ours)) === undefined) continue;
        await disk.remove(`${directoryOf}/${fileName}`);
        await disk.link(ours, `${directoryOf}/${fileName}`);
      }
      await disk.syncDirectory(directoryOf);
    }
  } finally {
    store.close();
  }
  await removeOurs(placeOf(parts), ["diffs"]);
  return reportOf(volume, await readLegacyProxyVolume(disk, directory));
}

function reportOf(volume: string, found: LegacyProxyVolume): AdoptReport {
  const held = heldDiffs(found);
  const bytes = held.reduce((sum, { file }) => sum + file.meta.dataSizeBytes, 0);
  return {
    volume,
    state: found.archives.length === 0 ? "Stopped" : "Started",
    facts: [
      ...found.archives.map(({ name, target, pending }) => {
        const { address, compression, delayS } = entryOf(target);
        return `archive ${name} at ${address}, ${compression}, delay ${delayS} s: ${pending.length} diffs wait`;
      }),
      `${held.length} diffs, ${bytes} bytes; volume of ${found.sizeLb} LB`,
    ],
    warnings: found.leftovers.map((name) => `${name} is nothing a proxy knows; it stays where it is`),
  };
}

/** Every diff once, in the order of its log, with the archives that need it. */
function heldDiffs(found: LegacyProxyVolume): HeldDiff[] {
  const held = new Map<string, { file: LegacyDiffFile; path: string; archives: Set<string> }>();
  const all = found.archives.map(({ name }) => name);
  for (const file of found.received) {
    held.set(file.name, { file, path: `received/${file.name}`, archives: new Set(all) });
  }
  for (const { name, pending } of found.archives) {
    for (const file of pending) {
      const known = held.get(file.name);
      if (known === undefined) {
        held.set(file.name, { file, path: `sendto/${name}/${file.name}`, archives: new Set([name]) });
      } else known.archives.add(name);
    }
  }
  return [...held.values()].sort((a, b) => {
    const byGid = a.file.meta.from.gidB - b.file.meta.from.gidB || a.file.meta.to.gidB - b.file.meta.to.gidB;
    return byGid < 0n ? -1 : byGid > 0n ? 1 : 0;
  });
}

/** Links a diff to where a proxy of ours has it; its header says of which log it is. */
async function linkDiff(
  platform: Platform,
  directory: string,
  { file, path }: HeldDiff,
): Promise<{ readonly uuid: string; readonly sizeBytes: number }> {
  const { disk } = platform;
  const from = `${directory}/${path}`;
  if (file.meta.from.gidB !== file.meta.from.gidE || file.meta.to.gidB !== file.meta.to.gidE) {
    throw new WalbError("bad-format", { what: "a diff of a log has dirty ends", where: { file: from, field: "name" } });
  }
  const io: DiffIo = platform;
  const set = await openDiffSet(io, [from]);
  const uuid = Buffer.from(set.uuid).toString("hex");
  const sizeBytes = set.sources[0]!.fileBytes;
  await set.close();
  const target = `${directory}/diffs/${uuid}`;
  await disk.makeDirectory(target);
  await disk.remove(`${target}/${file.name}`);
  await disk.link(from, `${target}/${file.name}`);
  await disk.syncDirectory(target);
  return { uuid, sizeBytes };
}
