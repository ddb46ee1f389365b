/**
 * @module Replaying the large writes of a log in a file: only the headers of its packs come into this thread; data goes
 * from the log through its check to the image, in the order of the log.
 */

import { imageBytesMax } from "../../../diff/transfer.ts";
import { checkAborted } from "../../../diff/types.ts";
import { isPackFault, type LogPackHeader, nextPackLsid, tryDecodePackHeader } from "../../../log/pack.ts";
import type { WlogHeader } from "../../../log/wlogheader.ts";
import { Codec } from "../../../native/codec.ts";
import type { BadTransfer, DiskFile, TransferFlow } from "../../../platform/disk.ts";
import { kib, lbBytes, mib } from "../../../units.ts";
import type { Tool } from "./tool.ts";

/** Headers read by one job. */
const headerBytes = 256 * kib;
const batchBytesMax = 16 * mib;
const batchRowsMax = 4096;
const inFlightMax = 3;
/** Of larger records the windows of a flow would take memory that is not accounted for. */
const recordBytesMax = 4 * imageBytesMax;
/** Below this it costs less not to write what the log itself replaces. */
const largeWriteBytes = 32 * kib;

/** What to replay. */
export interface LogFlowInput {
  /** Buffered. */
  readonly log: DiskFile;
  readonly sizeBytes: number;
  readonly header: WlogHeader;
  /** File offset of the first pack. */
  readonly startBytes: number;
  /** Blocks of the image that may be written. */
  readonly limitLb: number;
  /** Hears each pack that is replayed, in order. */
  readonly onPack: (header: LogPackHeader) => void;
}

/** Packs that were read together, and their data in the log. */
interface Batch {
  readonly packs: readonly LogPackHeader[];
  readonly rows: readonly { readonly pack: number; readonly record: number }[];
}

/**
 * Replays packs until one that is not plain: damaged, cut off, with a discard, or that writes beyond the limit or very
 * much at once; at its end, too. Its caller goes on there in the other way, which knows what to do or say.
 * @returns the lsid of that pack; all before it is written, and nothing of what is behind it.
 */
export async function replayPlainPacks(tool: Tool, input: LogFlowInput, image: DiskFile): Promise<number> {
  const { log, header } = input;
  const { readLogHeaders } = log;
  if (readLogHeaders === undefined || log.isDirect || image.isDirect) return header.beginLsid;
  const flow = image.transfer === undefined ? undefined : image.startFlow?.({ isStrict: true });
  if (flow === undefined) return header.beginLsid;
  const running: { readonly batch: Batch; readonly answer: Promise<BadTransfer | undefined> }[] = [];
  let replayedLsid = header.beginLsid;
  /** Waits for the oldest batch. @returns false when a record of it is bad. */
  const finishOne = async (): Promise<boolean> => {
    const { batch, answer } = running.shift()!;
    const bad = await answer;
    const goodCount = bad === undefined ? batch.packs.length : batch.rows[bad.row]!.pack;
    for (const pack of batch.packs.slice(0, goodCount)) {
      input.onPack(pack);
      replayedLsid = nextPackLsid(pack);
    }
    return bad === undefined;
  };
  try {
    for await (const batch of plainBatches(tool, input)) {
      const answer = writeBatch(input, image, flow, batch);
      // Heard of where it is waited for.
      answer.catch(() => undefined);
      running.push({ batch, answer });
      if (running.length >= inFlightMax && !(await finishOne())) return replayedLsid;
    }
    while (running.length > 0) if (!(await finishOne())) return replayedLsid;
    return replayedLsid;
  } finally {
    await Promise.allSettled(running.map(({ answer }) => answer));
    flow.end();
  }
}

async function writeBatch(
  { log, header, startBytes }: LogFlowInput,
  image: DiskFile,
  flow: TransferFlow,
  { packs, rows }: Batch,
): Promise<BadTransfer | undefined> {
  return await image.transfer?.(
    [log],
    rows.length,
    (table) => {
      for (const { pack, record } of rows) {
        const { lsid, sizeLb, offsetLb, checksum } = packs[pack]!.records[record]!;
        const offsetBytes = startBytes + (lsid - header.beginLsid) * header.pbsBytes;
        const sizeBytes = sizeLb * lbBytes;
        // The salt is one more word that is summed.
        const unsalted = (checksum + header.salt) >>> 0;
        table.put(0, offsetBytes, sizeBytes, Codec.none, unsalted, sizeBytes, 0, sizeBytes, offsetLb * lbBytes);
      }
    },
    { flow },
  );
}

/** Batches of plain packs, up to the first other one. */
async function* plainBatches(tool: Tool, input: LogFlowInput): AsyncGenerator<Batch, void> {
  const { header, log, startBytes, sizeBytes } = input;
  const { pbsBytes, salt, lsidBase = 0n } = header;
  const lease = await tool.platform.memory.lease(headerBytes);
  try {
    let lsid = header.beginLsid;
    let isFirst = true;
    for (;;) {
      checkAborted(tool.signal, "replaying the log");
      const atBytes = startBytes + (lsid - header.beginLsid) * pbsBytes;
      if (atBytes + pbsBytes > sizeBytes) return;
      const count = (await log.readLogHeaders?.(atBytes, pbsBytes, lease)) ?? 0;
      let open = newBatch();
      for (let i = 0; i < count; i += 1) {
        const block = lease.bytes.subarray(i * pbsBytes, (i + 1) * pbsBytes);
        const pack = tryDecodePackHeader(block, { pbsBytes, salt, expectedLsid: lsid, lsidBase });
        const isPlain = !isPackFault(pack) && isPlainPack(pack, input);
        if (!isPlain || (isFirst && !isOfLargeWrites(pack))) {
          if (open.packs.length > 0) yield open;
          return;
        }
        isFirst = false;
        addPack(open, pack);
        lsid = nextPackLsid(pack);
        if (open.bytes < batchBytesMax && open.rows.length < batchRowsMax) continue;
        yield open;
        open = newBatch();
      }
      if (open.packs.length > 0) yield open;
      if (count === 0) return;
    }
  } finally {
    lease.release();
  }
}

const newBatch = () => ({ packs: [] as LogPackHeader[], rows: [] as { pack: number; record: number }[], bytes: 0 });

function addPack(batch: ReturnType<typeof newBatch>, pack: LogPackHeader): void {
  const number = batch.packs.push(pack) - 1;
  pack.records.forEach(({ kind, sizeLb }, record) => {
    if (kind !== "data") return;
    batch.rows.push({ pack: number, record });
    batch.bytes += sizeLb * lbBytes;
  });
}

/** Data and padding only, all of it in the log and within the limit. A pack of nothing leads nowhere: it is damage. */
function isPlainPack(pack: LogPackHeader, { header, startBytes, sizeBytes, limitLb }: LogFlowInput): boolean {
  if (pack.records.length === 0) return false;
  const endBytes = startBytes + (nextPackLsid(pack) - header.beginLsid) * header.pbsBytes;
  if (endBytes > sizeBytes) return false;
  for (const { kind, offsetLb, sizeLb } of pack.records) {
    if (kind === "padding") continue;
    if (kind !== "data" || offsetLb + sizeLb > limitLb || sizeLb * lbBytes > recordBytesMax) return false;
  }
  return true;
}

function isOfLargeWrites(pack: LogPackHeader): boolean {
  const writes = pack.records.filter(({ kind }) => kind === "data");
  const writtenLb = writes.reduce((sum, { sizeLb }) => sum + sizeLb, 0);
  return writtenLb * lbBytes >= writes.length * largeWriteBytes;
}
