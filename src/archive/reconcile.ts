/**
 * @module Brings rows and files of an archive volume together at start: what was under way is undone or finished,
 * complete diffs without a row are adopted, damaged ones are moved to `quarantine` with the points they cost.
 */

import { openDiffSet } from "../diff/set.ts";
import type { DiffIo } from "../diff/types.ts";
import { verifyDiff } from "../diff/verify.ts";
import { asWalbError, isUnwritable, WalbError } from "../errors.ts";
import { contains } from "../snapshot/algebra.ts";
import { diffFileName, diffFileSuffix, parseDiffFileName } from "../snapshot/filename.ts";
import { pointsInTime, type RestorePoint } from "../snapshot/restore.ts";
import { snapshotText } from "../snapshot/text.ts";
import { isSameSnapshot } from "../snapshot/types.ts";
import { forgetBaseHashes } from "./base-hashes.ts";
import { baseFault } from "./base-image.ts";
import { reconcileImages, tryEndPromotion } from "./cold.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { explained } from "./diffs.ts";
import { type Manifest, manifestName } from "./manifest.ts";
import { mergingPrefix } from "./merge.ts";
import { pointsText } from "./plan.ts";
import { moveToQuarantine, moveToUnknown, quarantineName } from "./quarantine.ts";
import { receivingPrefix } from "./receive.ts";
import type { ArchiveVolume } from "./volume.ts";

/** What was found; for the log and the tests. */
export interface Reconciled {
  readonly adopted: readonly string[];
  readonly missing: readonly string[];
  readonly quarantined: readonly string[];
  readonly removed: readonly string[];
}

/**
 * Reconciles one volume. Nothing that may be a diff is deleted.
 * @param manifest what was written last; it may be ahead of the database by one step.
 */
export async function reconcile(volume: ArchiveVolume, io: DiffIo, manifest?: Manifest): Promise<Reconciled> {
  // Never over a backup: a volume that has a base is not being reset, whatever else its row says.
  if (volume.store.isResetting && volume.store.base === undefined) await finishReset(volume);
  await reconcileImages(volume);
  const found = { adopted: [], missing: [], quarantined: [], removed: [] };
  await new Reconciliation(volume, io, found).run(manifest);
  // Files that were not needed any more are gone: there may be room now.
  await tryEndPromotion(volume);
  await lookAtBase(volume);
  return found;
}

/** Deletes the files of a reset whose rows are gone. */
export async function finishReset(volume: ArchiveVolume): Promise<void> {
  const { disk } = volume.platform;
  await volume.removals();
  await forgetBaseHashes(volume);
  for (const image of await volume.images.list(volume.name)) await volume.images.remove(image);
  for (const fileName of await disk.list(volume.directory)) {
    if (fileName.endsWith(diffFileSuffix)) await disk.remove(volume.pathOf(fileName));
  }
  await disk.removeTree(volume.pathOf(quarantineName));
  await disk.syncDirectory(volume.directory);
  volume.store.endReset();
}

/** Without it the volume can be opened all the same: diffs come in, and the status tells of it. */
async function lookAtBase(volume: ArchiveVolume): Promise<void> {
  if (volume.store.base === undefined) return;
  try {
    const error = await baseFault(volume);
    if (error !== undefined) volume.log.error("the base image cannot be used", { error });
  } catch (error) {
    volume.log.error("the base image cannot be looked at", { error });
  }
}

/** Rows made in one transaction. */
const dueMax = 1_000;

class Reconciliation {
  readonly #volume: ArchiveVolume;
  readonly #io: DiffIo;
  /** Complete diffs whose rows are to be made. */
  readonly #due: StoredDiff[] = [];
  /** Files without rows that cannot be used. */
  readonly #unusable: { readonly fileName: string; readonly error: WalbError }[] = [];
  readonly #found: { adopted: string[]; missing: string[]; quarantined: string[]; removed: string[] };

  constructor(
    volume: ArchiveVolume,
    io: DiffIo,
    found: { adopted: string[]; missing: string[]; quarantined: string[]; removed: string[] },
  ) {
    this.#volume = volume;
    this.#io = io;
    this.#found = found;
  }

  async run(manifest: Manifest | undefined): Promise<void> {
    const volume = this.#volume;
    const { disk } = this.#io;
    const onDisk = new Set<string>();
    for (const name of await disk.list(volume.directory)) {
      // A manifest that is up to date is not written again, which would take what the last write left.
      const isTemporary = [receivingPrefix, mergingPrefix, `${manifestName}.`].some((begin) => name.startsWith(begin));
      if (isTemporary) await disk.remove(volume.pathOf(name));
      else if (name.endsWith(diffFileSuffix)) onDisk.add(name);
    }
    const uuids = new Set([...(manifest?.diffUuids ?? []), ...volume.store.manifest().diffUuids]);
    for (const diff of volume.store.diffs) await this.#check(diff, onDisk.delete(diff.fileName));
    const registered = volume.store.diffs;
    const nextUuid = manifest?.logUuid;
    const ofNext: string[] = [];
    for (const name of onDisk) {
      if ((await this.#takeStray(name, uuids, registered, nextUuid)) === "of the next log") ofNext.push(name);
    }
    this.#register();
    // A hash backup begins where all others end, whatever the times in the names say.
    for (const name of inOrder(ofNext)) await this.#takeStray(name, uuids, registered, nextUuid, true);
    this.#register();
    for (const { fileName, error } of this.#unusable) await this.#setAside(fileName, error);
    // Of before: nobody can miss what is no diff.
    const nobodys = volume.store.losses.map(({ fileName }) => fileName).filter((name) => !isDiffName(name));
    if (nobodys.length > 0) volume.store.forgetLosses(nobodys);
  }

  /** A row and its file. */
  async #check(diff: StoredDiff, isNamed: boolean): Promise<void> {
    const { fileName, meta } = diff;
    const info = isNamed ? await this.#io.disk.info(this.#volume.pathOf(fileName)) : undefined;
    if (info === undefined) {
      this.#found.missing.push(fileName);
      this.#lose(diff, "the file is missing");
      return;
    }
    if (info.kind === "file" && info.sizeBytes === meta.dataSizeBytes) return;
    if (info.kind === "file" && (await this.#believe(diff))) return;
    const what =
      info.kind === "file"
        ? `the file has ${info.sizeBytes} bytes instead of ${meta.dataSizeBytes}`
        : `it is no file (${info.kind})`;
    await this.#quarantine(fileName);
    this.#lose(diff, `${what}; it was moved to ${quarantineName}/`);
  }

  /**
   * A file of another size than its row says, which may be the one that is wrong: a file that is good to its end and writes
   * what the row says is believed. One that writes something else, or is as large as another diff, is of another place,
   * whatever its name: files do not say which gids they are of.
   * @returns whether the row says now what the file does, or the file cannot be read, which says nothing of it.
   */
  async #believe(diff: StoredDiff): Promise<boolean> {
    const { store, log } = this.#volume;
    const { fileName } = diff;
    try {
      const found = await this.#read(fileName);
      if (found.uuid !== diff.uuid || found.contentLb !== diff.contentLb) return false;
      const isAsLarge = (other: StoredDiff): boolean => other.meta.dataSizeBytes === found.meta.dataSizeBytes;
      if (store.diffs.some(isAsLarge)) return false;
      await verifyDiff(this.#io, this.#volume.pathOf(fileName), { inFlightMax: 2 });
      store.replaceDiffs(found, [diff]);
      const sizes = { rowBytes: diff.meta.dataSizeBytes, fileBytes: found.meta.dataSizeBytes };
      log.warn("the row of a diff said another size than its file, which is good: it says that of the file now", {
        file: fileName,
        ...sizes,
      });
      return true;
    } catch (error) {
      const failure = asWalbError(error);
      if (!isUnreadable(failure)) return false;
      await explained(this.#volume, failure);
      return true;
    }
  }

  /**
   * A file without a row. @param registered diffs whose rows were there. @param nextUuid log that was to be followed.
   * @param isNextDue whether diffs of that may be taken.
   */
  async #takeStray(
    fileName: string,
    uuids: ReadonlySet<string>,
    registered: readonly StoredDiff[],
    nextUuid: string | undefined,
    isNextDue = false,
  ): Promise<"of the next log" | undefined> {
    const volume = this.#volume;
    const { store } = volume;
    try {
      const diff = await this.#read(fileName);
      const { meta } = diff;
      const base = store.base;
      if (base === undefined) {
        throw new WalbError("state", { what: "the volume has no base image that the diff could belong to" });
      }
      const isKnown = uuids.has(diff.uuid) || store.knownLogs.has(diff.uuid);
      // What an apply or a merge has made needless and a crash left behind: the row was gone on purpose.
      const isNeedless = meta.to.gidB <= base.from.gidB || registered.some((known) => contains(known.meta, meta));
      if (isNeedless && isKnown) {
        await this.#io.disk.remove(volume.pathOf(fileName));
        this.#found.removed.push(fileName);
        volume.log.info("a diff that was not needed any more is removed", { file: fileName });
        return undefined;
      }
      if (diff.uuid === nextUuid && diff.uuid !== store.logUuid) {
        if (!isNextDue) return "of the next log";
        this.#finishHashBackup(diff);
        return undefined;
      }
      if (!uuids.has(diff.uuid)) {
        throw new WalbError("different-uuid", {
          what: `the diff comes from the log ${diff.uuid}, not from one of this volume's`,
        });
      }
      this.#due.push(diff);
      if (this.#due.length >= dueMax) this.#register();
    } catch (error) {
      // What it costs is known when all others are registered.
      this.#unusable.push({ fileName, error: asWalbError(error, { file: volume.pathOf(fileName) }) });
    }
    return undefined;
  }

  /** A file without a row that cannot be used. */
  async #setAside(fileName: string, error: WalbError): Promise<void> {
    const { store, log, platform } = this.#volume;
    const toB = isDiffName(fileName) ? parseDiffFileName(fileName).to.gidB : undefined;
    // The way to the newest snapshot leads past it, or there is none yet.
    const isMissed = toB !== undefined && store.base !== undefined && toB > this.#volume.latest().from.gidB;
    if (isUnreadable(error)) {
      // That says nothing about the file: it is left for the next start.
      log.error("a file that may be a diff cannot be read", { file: fileName, error });
      if (isMissed)
        this.#volume.strayTrouble ??= { error: strayError(this.#volume.name, error), atMs: platform.clock.nowMs() };
    } else if (isMissed) {
      await this.#quarantine(fileName);
      const message = `the diff ${fileName} cannot be used: ${error.what}; it was moved to ${quarantineName}/`;
      store.addLoss({ fileName, toB, message, atMs: platform.clock.nowMs() });
      log.error("a diff cannot be used", { file: fileName, error });
    } else {
      try {
        await moveToUnknown(this.#volume, fileName);
        this.#found.quarantined.push(fileName);
        log.warn("a file that is no diff of the volume was moved aside", { file: fileName, error });
      } catch (failure) {
        if (!isUnwritable(failure)) throw failure;
        log.warn("a file that is no diff of the volume cannot be moved aside", { file: fileName, error: failure });
      }
    }
  }

  /** Many in one transaction: a lost database may have had tens of thousands. */
  #register(): void {
    const { store, log } = this.#volume;
    const due = this.#due.splice(0);
    store.addDiffs(due);
    for (const { fileName } of due) {
      this.#found.adopted.push(fileName);
      log.info("a complete diff is registered", { file: fileName });
    }
  }

  /** A hash backup whose row a crash took: log and diff must change together, or the old log would go on from the new image. */
  #finishHashBackup(diff: StoredDiff): void {
    this.#register();
    const { store, log } = this.#volume;
    const latest = this.#volume.latest().from;
    if (!isSameSnapshot(diff.meta.from, latest)) {
      throw new WalbError("state", { what: `the hash backup does not begin at ${snapshotText(latest)}` });
    }
    store.commitHashBackup(diff, undefined);
    this.#found.adopted.push(diff.fileName);
    log.info("a hash backup that was complete is registered", { file: diff.fileName });
  }

  /** Name, header and index of a file. @throws WalbError when one of them is not right. */
  async #read(fileName: string): Promise<StoredDiff> {
    const named = parseDiffFileName(fileName);
    if (diffFileName(named) !== fileName) {
      throw new WalbError("bad-format", { what: `its name is not canonical, that would be ${diffFileName(named)}` });
    }
    const open = await openDiffSet(this.#io, [this.#volume.pathOf(fileName)]);
    try {
      const meta = { ...named, dataSizeBytes: open.sources[0]!.fileBytes };
      const uuid = Buffer.from(open.uuid).toString("hex");
      return { fileName, meta, uuid, contentLb: open.stats.normalLb };
    } finally {
      await open.close();
    }
  }

  #lose(diff: StoredDiff, what: string): void {
    const { store, log, platform } = this.#volume;
    const before = this.#points();
    const { fileName, meta } = diff;
    const base = store.base;
    const left = new Set(base === undefined ? [] : pointsInTime(store.set.erase(meta), base).map((point) => point.gid));
    const lost = before.filter((point) => !left.has(point.gid));
    const message = `the diff ${fileName} cannot be used: ${what}; points that cannot be restored without it: ${pointsText(lost)}`;
    store.loseDiff(diff, { fileName, toB: meta.to.gidB, message, atMs: platform.clock.nowMs() });
    log.error("a diff is lost", { file: fileName, message });
  }

  #points(): RestorePoint[] {
    return this.#volume.points().map(({ point }) => point);
  }

  async #quarantine(fileName: string): Promise<void> {
    await moveToQuarantine(this.#volume, fileName);
    this.#found.quarantined.push(fileName);
  }
}

/** Names of diffs by the gid they reach. */
function inOrder(fileNames: readonly string[]): string[] {
  const gidOf = (fileName: string): number => Number(parseDiffFileName(fileName).to.gidB);
  return fileNames.toSorted((a, b) => gidOf(a) - gidOf(b));
}

/** Whether a name is one that an archive gives a diff. */
function isDiffName(fileName: string): boolean {
  try {
    return diffFileName(parseDiffFileName(fileName)) === fileName;
  } catch {
    return false;
  }
}

/** Rights, trouble of the disk or the host, or a link to what is not there now. */
function isUnreadable({ code }: WalbError): boolean {
  return code === "io" || code === "not-found";
}

function strayError(volume: string, error: WalbError): WalbError {
  const why = error.cause instanceof Error ? `: ${error.cause.message}` : "";
  return new WalbError("unreadable", {
    what: `a diff that may be the next one cannot be read: ${error.what}${why}`,
    where: { ...error.where, volume },
    hint: `${error.hint ?? "look at where it is, and at the kernel log"}; then restart the archive, which takes it then`,
  });
}
