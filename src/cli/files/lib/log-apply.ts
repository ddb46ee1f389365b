/** @module Replaying log packs onto an image or data device, with the counts the original prints. */
import { WalbError } from "../../../errors.ts";
import type { PackBatch } from "../../../log/batch.ts";
import { wholeLsid } from "../../../log/lsid.ts";
import type { LogPackHeader } from "../../../log/pack.ts";
import {
  type LoggedWrite,
  overlayWrites,
  planOverlay,
  runStoreWrites,
  type StoreOperation,
} from "../../../log/storewrites.ts";
import { type WlogInput, WlogReader } from "../../../log/wlogfile.ts";
import type { WlogHeader } from "../../../log/wlogheader.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { kib, lbBytes, mib } from "../../../units.ts";
import {
  type ApplyCounts,
  countReplayed,
  countWritten,
  emptyApplyCounts,
  type LogApplyOptions,
  visitPart,
} from "./apply-counts.ts";
import { replayPlainPacks } from "./log-flow.ts";
import { LogStretch } from "./log-stretch.ts";
import type { OpenInput } from "./paths.ts";
import type { Tool } from "./tool.ts";
import { emptyLogError, missingEndError } from "./walk.ts";

/** Log read at once, where memory allows: fewer waits than with the default. Three of them are in memory. */
const chunkBytesMax = 4 * mib;
const zeroBytes = 64 * kib;
const longLogBytes = 64 * mib;
const fileLbMax = Math.floor(Number.MAX_SAFE_INTEGER / lbBytes);
const largeWriteBytes = 32 * kib;

/**
 * Replays the wlogs of an input; wlogs behind one another must continue each other. Durable when it returns.
 * @param image opened for writing, buffered. A file grows as needed; a device must be large enough.
 * @throws WalbError `damaged` at the first damage, after what is before it was replayed; `out-of-range`.
 */
export async function redoWlog(
  tool: Tool,
  input: WlogInput & Pick<Partial<OpenInput>, "sizeBytes" | "again">,
  image: DiskFile,
  options: LogApplyOptions,
): Promise<ApplyCounts> {
  const { memory, compute } = tool.platform;
  const { again } = input;
  // What the log replaces itself need not be written, where the rest can be read again. `onPack` wants the data at once.
  const mayStretch = again !== undefined && options.onPack === undefined;
  let stretch: LogStretch | undefined;
  let isDecided = false;
  const chunkBytes = Math.min(chunkBytesMax, Math.max(mib, Math.floor(memory.budgetBytes / 8)));
  const reader = new WlogReader(input, memory, compute, chunkBytes);
  const limitLb = image.isBlockDevice ? Math.floor((await image.size()) / lbBytes) : fileLbMax;
  const zeroes = await memory.lease(zeroBytes);
  let counts: ApplyCounts | undefined;
  let uuid = "";
  let doneBytes = 0;
  // Of the batch before: it is written while the next one is read and checked.
  let writing: Promise<void> | undefined;
  try {
    zeroes.bytes.fill(0);
    for (let header = await reader.nextHeader(); header !== undefined; header = await reader.nextHeader()) {
      const beginLsid = wholeLsid(header.beginLsid, header.lsidBase);
      if (counts !== undefined) checkContinues(input.name, counts.endLsid, uuid, beginLsid, header.uuid);
      counts ??= emptyApplyCounts(beginLsid);
      ({ uuid } = header);
      const place = { ...header, startBytes: reader.offsetBytes };
      if (mayStretch && stretch === undefined && input.skip !== undefined) {
        await writing;
        const beforeBytes = doneBytes;
        const replayed = counts;
        const endLsid = await replayLarge(tool, input, again, header, place.startBytes, image, limitLb, (pack) => {
          doneBytes += countReplayed(pack, header.pbsBytes, image, limitLb, replayed, options);
          tool.progress(doneBytes, input.sizeBytes);
        });
        if (doneBytes > beforeBytes) {
          reader.skipTo(endLsid);
          counts.endLsid = wholeLsid(endLsid, header.lsidBase);
        }
      }
      const packs = reader.packs(tool.signal);
      for (;;) {
        const step = await packs.next();
        if (step.done === true) {
          if (!step.value.hasEndBlock && options.lenient !== true) {
            throw missingEndError(input.name, wholeLsid(step.value.endLsid, header.lsidBase), doneBytes);
          }
          break;
        }
        const batch = step.value;
        counts.endLsid = wholeLsid(batch.endLsid, header.lsidBase);
        if (!isDecided && mayStretch && !isOfLargeWrites(batch, input.sizeBytes)) {
          stretch = new LogStretch(tool, again, image, options);
        }
        isDecided = true;
        let isHeld = false;
        try {
          if (stretch === undefined) {
            const { sizeBytes, operations } = planBatch(batch, header.pbsBytes, image, limitLb, counts, options);
            doneBytes += sizeBytes;
            // Before this one begins, so that overlapping writes keep the order of the log.
            await writing;
            isHeld = true;
            writing = runStoreWrites(image, operations, zeroes).finally(() => batch.release());
            // Heard of where it is waited for.
            writing.catch(() => {});
          } else {
            doneBytes += stretch.add(batch, place, limitLb, counts);
            if (stretch.isFull) await stretch.write(uuid, counts);
          }
        } finally {
          if (!isHeld) batch.release();
        }
        tool.progress(doneBytes, input.sizeBytes);
      }
    }
    await writing;
    if (counts !== undefined) await stretch?.write(uuid, counts);
  } catch (error) {
    // What is before the damage is replayed; that this failed would be worse news.
    await writing;
    if (counts !== undefined && !tool.signal.aborted) await stretch?.write(uuid, counts);
    throw error;
  } finally {
    await writing?.catch(() => {});
    zeroes.release();
    await image.sync();
  }
  if (counts === undefined) {
    throw emptyLogError(input.name);
  }
  return counts;
}

/** Replays what is plain of a long log with large writes. @returns the lsid that the rest begins at. */
async function replayLarge(
  tool: Tool,
  input: { readonly sizeBytes?: number | undefined },
  again: NonNullable<OpenInput["again"]>,
  header: WlogHeader,
  startBytes: number,
  image: DiskFile,
  limitLb: number,
  onPack: (pack: LogPackHeader) => void,
): Promise<number> {
  const { sizeBytes = 0 } = input;
  if (sizeBytes - startBytes < longLogBytes) return header.beginLsid;
  const log = await tool.platform.disk.open(again.path, { mode: "read" });
  try {
    const inFile = { startBytes: again.offsetBytes + startBytes, sizeBytes: again.offsetBytes + sizeBytes };
    return await replayPlainPacks(tool, { log, header, ...inFile, limitLb, onPack }, image);
  } finally {
    await log.close();
  }
}

/** @throws WalbError `damaged` when a wlog does not follow the one before. */
export function checkContinues(file: string, endLsid: bigint, uuid: string, nextLsid: bigint, nextUuid: string): void {
  const hint = "give the wlogs of one device in the order of their lsids, without gaps";
  if (uuid !== nextUuid) {
    const what = `a wlog of device ${nextUuid} follows one of ${uuid}`;
    throw new WalbError("different-uuid", { what, where: { file, field: "uuid" }, hint });
  }
  if (endLsid !== nextLsid) {
    const what = `a wlog that begins at lsid ${nextLsid} follows one that ends at ${endLsid}`;
    throw new WalbError("damaged", { what, where: { file, field: "begin_lsid" }, hint });
  }
}

/** A long log whose writes are large: reading it a second time would cost more than what it replaces itself. */
function isOfLargeWrites(batch: PackBatch, sizeBytes: number | undefined): boolean {
  let writes = 0;
  let writtenLb = 0;
  for (const part of batch.parts) {
    for (const { kind, sizeLb } of part.header.records) {
      if (kind !== "data") continue;
      writes += 1;
      writtenLb += sizeLb;
    }
  }
  return sizeBytes !== undefined && sizeBytes >= longLogBytes && writtenLb * lbBytes >= writes * largeWriteBytes;
}

/** What a batch asks of the image, counted; and its size in the log. */
function planBatch(
  batch: PackBatch,
  pbsBytes: number,
  image: DiskFile,
  limitLb: number,
  counts: ApplyCounts,
  options: LogApplyOptions,
): { sizeBytes: number; operations: StoreOperation[] } {
  const writes: LoggedWrite[] = [];
  let sizeBytes = 0;
  for (const part of batch.parts) {
    const firstWrite = writes.length;
    sizeBytes += visitPart(part, pbsBytes, image, limitLb, counts, options, ({ offsetLb }, sizeLb, memory) =>
      writes.push({ offsetLb, sizeLb, memory }),
    );
    if (part.headerMemory !== undefined) {
      options.onPack?.(part.header, part.headerMemory.view.getUint32(0, true), writes.slice(firstWrite));
    }
  }
  const overlay = overlayWrites(writes);
  countWritten(writes, overlay, counts);
  return { sizeBytes, operations: planOverlay(overlay) };
}
