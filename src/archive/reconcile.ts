/**
 * @module Brings rows and files of an archive volume together at start: what was under way is undone or finished,
 * complete diffs without a row are adopted, damaged ones are moved to `quarantine` with the points they cost.
 */

import { openDiffSet } from "../diff/set.ts";
import type { DiffIo } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { contains } from "../snapshot/algebra.ts";
import { diffFileName, diffFileSuffix, parseDiffFileName } from "../snapshot/filename.ts";
import { pointsInTime, type RestorePoint } from "../snapshot/restore.ts";
import { snapshotText } from "../snapshot/text.ts";
import { isSameSnapshot } from "../snapshot/types.ts";
import { forgetBaseHashes } from "./base-hashes.ts";
import { baseFault } from "./base-image.ts";
import { reconcileImages } from "./cold.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { type Manifest, manifestName } from "./manifest.ts";
import { mergingPrefix } from "./merge.ts";
import { pointsText } from "./plan.ts";
import { moveToQuarantine, quarantineName } from "./quarantine.ts";
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
    for (const diff of volume.store.diffs) {
      const info = onDisk.delete(diff.fileName) ? await disk.info(volume.pathOf(diff.fileName)) : undefined;
      if (info === undefined) {
        this.#found.missing.push(diff.fileName);
        this.#lose(diff, "the file is missing");
      } else if (info.sizeBytes !== diff.meta.dataSizeBytes) {
        const what = `the file has ${info.sizeBytes} bytes instead of ${diff.meta.dataSizeBytes}`;
        await this.#quarantine(diff.fileName);
        this.#lose(diff, `${what}; it was moved to ${quarantineName}/`);
      }
    }
    const registered = volume.store.diffs;
    for (const name of onDisk) await this.#takeStray(name, uuids, registered, manifest?.logUuid);
    this.#register();
  }

  /** A file without a row. @param registered diffs whose rows were there. @param nextUuid log that was to be followed. */
  async #takeStray(
    fileName: string,
    uuids: ReadonlySet<string>,
    registered: readonly StoredDiff[],
    nextUuid: string | undefined,
  ): Promise<void> {
    const volume = this.#volume;
    const { store } = volume;
    try {
      const diff = await this.#read(fileName);
      const { meta } = diff;
      const base = store.base;
      if (base === undefined) {
        throw new WalbError("state", { what: "the volume has no base image that the diff could belong to" });
      }
      // What an apply or a merge has made needless and a crash left behind: the row was gone on purpose.
      if (meta.to.gidB <= base.from.gidB || registered.some((known) => contains(known.meta, meta))) {
        await this.#io.disk.remove(volume.pathOf(fileName));
        this.#found.removed.push(fileName);
        volume.log.info("a diff that was not needed any more is removed", { file: fileName });
        return;
      }
      if (diff.uuid === nextUuid && diff.uuid !== store.logUuid) {
        this.#finishHashBackup(diff);
        return;
      }
      if (!uuids.has(diff.uuid)) {
        throw new WalbError("different-uuid", {
          what: `the diff comes from the log ${diff.uuid}, not from one of this volume's`,
        });
      }
      this.#due.push(diff);
      if (this.#due.length >= dueMax) this.#register();
    } catch (error) {
      const failure = asWalbError(error);
      // Trouble of the disk says nothing about the file: it is left for the next start.
      if (failure.code !== "io") await this.#quarantine(fileName);
      const moved = failure.code === "io" ? "" : `; it was moved to ${quarantineName}/`;
      const message = `the diff ${fileName} cannot be used: ${failure.what}${moved}`;
      store.addLoss({ fileName, toB: gidOf(fileName), message, atMs: volume.platform.clock.nowMs() });
      volume.log.error("a diff cannot be used", { file: fileName, error: failure });
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

/** The gid that a file's name says it reaches; the largest one when it says none. */
function gidOf(fileName: string): bigint {
  try {
    const { gidB } = parseDiffFileName(fileName).to;
    return gidB <= BigInt(Number.MAX_SAFE_INTEGER) ? gidB : BigInt(Number.MAX_SAFE_INTEGER);
  } catch {
    return BigInt(Number.MAX_SAFE_INTEGER);
  }
}
