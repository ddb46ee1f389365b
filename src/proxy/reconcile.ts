/**
 * @module Brings rows and files of a proxy volume together at start: temporaries go, complete diffs without a row are
 * adopted, rows without a file are reported.
 */
import type { RecordIndex } from "../diff/record-index.ts";
import { openDiffSet } from "../diff/set.ts";
import type { DiffIo } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { diffFileSuffix, parseDiffFileName } from "../snapshot/filename.ts";
import { temporaryPrefix } from "./receive.ts";
import type { ProxyVolume } from "./volume.ts";

const uuidPattern = /^[0-9a-f]{32}$/;

/** What was found; for the log and the tests. */
export interface Reconciled {
  readonly adopted: readonly string[];
  readonly missing: readonly string[];
  readonly unreadable: readonly string[];
}

/** Reconciles one volume. Nothing that may be a diff is deleted. */
export async function reconcile(volume: ProxyVolume, io: DiffIo): Promise<Reconciled> {
  const { disk } = io;
  const root = `${volume.directory}/diffs`;
  const adopted: string[] = [];
  const missing: string[] = [];
  const unreadable: string[] = [];
  const onDisk = new Set<string>();
  const uuids = (await disk.info(root)) === undefined ? [] : await disk.list(root);
  for (const uuid of uuids) {
    if (!uuidPattern.test(uuid)) continue;
    const fileNames = await disk.list(`${root}/${uuid}`);
    // A log whose diffs are all delivered leaves its directory behind.
    if (fileNames.length === 0) await disk.removeTree(`${root}/${uuid}`);
    for (const fileName of fileNames) {
      const path = `${root}/${uuid}/${fileName}`;
      if (fileName.startsWith(temporaryPrefix)) await disk.remove(path);
      else if (fileName.endsWith(diffFileSuffix)) onDisk.add(`${uuid}/${fileName}`);
    }
  }
  for (const diff of volume.store.diffs) {
    const key = `${diff.uuid}/${diff.fileName}`;
    if (onDisk.delete(key)) continue;
    // The row goes: it can never be delivered. What it costs is said loudly, the archives then answer too-new-diff.
    missing.push(key);
    volume.store.dropDiff(diff);
    const error = new WalbError("damaged", {
      what: "a diff that was to be delivered is gone",
      where: { volume: volume.name, file: volume.pathOf(diff) },
      hint: `archives that did not get it answer too-new-diff from now on: take a hash backup: walb backup ${volume.name}`,
    });
    volume.lossTrouble ??= { error, atMs: volume.platform.clock.nowMs() };
    volume.log.error("a diff that was to be delivered is gone", { error });
  }
  // Without an archive nobody needs them, as far as we know; they wait for the first one.
  const found = volume.store.archives.length === 0 ? [] : [...onDisk].toSorted(byTime);
  for (const key of found) {
    const [uuid = "", fileName = ""] = key.split("/");
    try {
      await adopt(volume, io, uuid, fileName);
      adopted.push(key);
    } catch (error) {
      unreadable.push(key);
      const failure = asWalbError(error, { volume: volume.name, file: `${root}/${key}` });
      volume.log.error("a diff without a row cannot be read; it is left where it is", { error: failure });
    }
  }
  return { adopted, missing, unreadable };
}

/** Logs are sent in the order of reception, so an older one must be adopted first; names begin with the time. */
function byTime(a: string, b: string): number {
  const [nameA, nameB] = [a.slice(a.indexOf("/") + 1), b.slice(b.indexOf("/") + 1)];
  return nameA < nameB ? -1 : nameA > nameB ? 1 : 0;
}

/**
 * A complete file without a row: either its row was not written before a crash, and the storage had no Ack for it; or it
 * was delivered everywhere, and the crash came between the rows and the file. A second delivery is harmless: an archive
 * that has it answers too-old-diff.
 */
async function adopt(volume: ProxyVolume, io: DiffIo, uuid: string, fileName: string): Promise<void> {
  const meta = parseDiffFileName(fileName);
  const set = await openDiffSet(io, [volume.pathOf({ uuid, fileName })]);
  const sizeBytes = set.sources[0]!.fileBytes;
  // The volume is at least so large: a lost database knew it, and no archive takes a diff beyond the size announced.
  const endLb = endOf(set.records);
  await set.close();
  const diff = {
    fileName,
    uuid,
    fromGid: meta.from.gidB,
    toGid: meta.to.gidB,
    isMergeable: meta.isMergeable,
    timestampS: meta.timestampS,
    sizeBytes,
    receivedMs: volume.platform.clock.nowMs(),
  };
  const { replaced } = volume.store.addDiff(diff, endLb);
  if (replaced !== undefined) await volume.removeFiles([replaced]);
}

function endOf(records: RecordIndex): number {
  let endLb = 0;
  for (let at = 0; at < records.count; at += 1) {
    endLb = Math.max(endLb, records.addressLb[at]! + records.blocksLb[at]!);
  }
  return endLb;
}
