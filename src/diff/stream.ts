/** @module Reading a sorted diff from front to back, also from a pipe. */
import { WalbError } from "../errors.ts";
import type { Memory } from "../native/memory.ts";
import { badFormat, fileHeaderBytes, packHeaderBytes, parseFileHeader, parsePackHeader, truncated } from "./format.ts";
import { type CheckedPack, checkPack } from "./pack.ts";
import { RecordIndex } from "./record-index.ts";
import { addStats, emptyStats } from "./stats.ts";
import { addressLbMax, checkAborted, DiffFileKind, type DiffIo, type DiffPack, type DiffStats } from "./types.ts";

/** A sequential input: a file, or a pipe. */
export interface DiffInput {
  /** For messages. */
  readonly name: string;
  /** Fills `target`; the answer is less than its size only at the end of the input, 0 when nothing is left. */
  read(target: Memory): Promise<number>;
}

/** How to read. */
export interface SortedStreamOptions {
  /** Take an end without end pack for the end, as the original does. Default false. */
  readonly lenient?: boolean;
  /** Size of the volume: records must end by it. */
  readonly limitLb?: number;
  readonly signal?: AbortSignal;
}

/** A pack of a stream: checked, with memory to be released. */
export type StreamedPack = CheckedPack & DiffPack;

/**
 * Reads the header of a sorted diff; its packs come from `packs`, which returns the counts in the end. Data behind the
 * end pack is not read.
 * @throws WalbError `bad-format` or `damaged`; `unsupported` for an indexed diff, which cannot be read front to back.
 */
export async function readSortedStream(
  io: DiffIo,
  input: DiffInput,
  options: SortedStreamOptions = {},
): Promise<{ readonly uuid: Uint8Array; readonly packs: AsyncGenerator<StreamedPack, DiffStats> }> {
  const header = await readBlock(io, input, fileHeaderBytes);
  if (header.length < fileHeaderBytes) {
    throw truncated("the diff is shorter than its header", { file: input.name, offsetBytes: header.length });
  }
  const { kind, uuid } = parseFileHeader(header, io.compute, { file: input.name, offsetBytes: 0 });
  if (kind !== DiffFileKind.sorted) {
    throw new WalbError("unsupported", {
      what: "an indexed diff cannot be read front to back",
      where: { file: input.name, field: "type" },
      hint: "give it as a file, where a sorted diff may come from a pipe",
    });
  }
  return { uuid, packs: readPacks(io, input, options) };
}

async function* readPacks(
  io: DiffIo,
  input: DiffInput,
  options: SortedStreamOptions,
): AsyncGenerator<StreamedPack, DiffStats> {
  const stats: DiffStats = { ...emptyStats(), files: 1 };
  const limitLb = options.limitLb ?? addressLbMax;
  const scratch = new RecordIndex(128, 128);
  let fromLb = 0;
  for (let offsetBytes = fileHeaderBytes; ; ) {
    checkAborted(options.signal, "reading a diff");
    const place = { file: input.name, offsetBytes };
    const header = await readBlock(io, input, packHeaderBytes);
    if (header.length < packHeaderBytes) {
      if (options.lenient === true) return stats;
      throw truncated("the diff ends without its end pack", place);
    }
    scratch.count = 0;
    const info = parsePackHeader(header, io.compute, scratch, 0, 0, fromLb, limitLb, place);
    if (info.isEnd) return stats;
    if (info.records === 0 && offsetBytes !== fileHeaderBytes) {
      throw badFormat("a pack has no records", place, "n_records");
    }
    if (info.records > 0) {
      const memory = await io.memory.lease(packHeaderBytes + info.dataBytes);
      let isHandedOver = false;
      try {
        memory.bytes.set(header);
        if (info.dataBytes > 0) {
          const data = memory.slice(packHeaderBytes, info.dataBytes);
          if ((await input.read(data)) < info.dataBytes) throw truncated("the diff ends inside a pack", place);
        }
        const checked = await checkPack(io, memory, { fromLb, limitLb, ...place });
        addStats(stats, checked.stats);
        isHandedOver = true;
        yield { ...checked, records: info.records, release: () => memory.release() };
      } finally {
        if (!isHandedOver) memory.release();
      }
    }
    fromLb = info.endLb;
    offsetBytes += packHeaderBytes + info.dataBytes;
  }
}

/** A copy of the next bytes of the input, fewer at its end. */
async function readBlock(io: DiffIo, input: DiffInput, sizeBytes: number): Promise<Uint8Array> {
  const lease = await io.memory.lease(sizeBytes);
  try {
    const readBytes = await input.read(lease);
    return lease.bytes.slice(0, readBytes);
  } finally {
    lease.release();
  }
}
