/**
 * @module A full image as a diff: every chunk of it becomes one record, chunks of zeroes become all-zero records.
 *
 * Applied to anything of at least that size, the diff gives the image.
 */
import { WalbError } from "../errors.ts";
import { Codec, type CompressOption } from "../native/codec.ts";
import type { Memory, MemoryPool } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import { alignUp, checkRange, lbBytes, mib } from "../units.ts";
import { type ImageReadOptions, inChunks } from "./chunks.ts";
import { IndexedDiffWriter } from "./convert.ts";
import { packHeaderBytes, packRecordsMax, uuidBytes } from "./format.ts";
import { PackBuilder } from "./pack.ts";
import { SortedDiffWriter } from "./sorted.ts";
import { countRecord, emptyStats } from "./stats.ts";
import type { DiffInput } from "./stream.ts";
import { addressLbMax, type DiffIo, type DiffStats, defaultCompress, type LogIo, RecordKind } from "./types.ts";

/** How to make a diff of an image. */
export interface ImageDiffOptions extends ImageReadOptions {
  readonly kind: "sorted" | "indexed";
  /** Size of a record; default 128 (64 KiB), at most 32768 (16 MiB). */
  readonly ioLb?: number;
  /** Default snappy. */
  readonly compress?: CompressOption;
  /** 16 bytes; default zeroes, as the image does not say which log it belongs to. */
  readonly uuid?: Uint8Array;
}

const ioLbMax = 32768;
const readBytesMax = 4 * mib;

/**
 * Writes an image as a diff. Not durable until `commitDiffFile`.
 * @param readPool what the image is read into; not the pool of `io`, or reading and writing could wait for each other.
 * @param input the image, from its start; its size must be a multiple of 512.
 * @param file new and empty, opened for writing, not direct.
 * @returns the counts of the file. @throws WalbError `bad-format` when the image does not end at a block.
 */
export async function diffFromImage(
  io: DiffIo,
  readPool: MemoryPool,
  input: DiffInput,
  file: DiskFile,
  options: ImageDiffOptions,
): Promise<DiffStats> {
  const ioLb = checkRange(options.ioLb ?? 128, 1, ioLbMax, "ioLb");
  const ioBytes = ioLb * lbBytes;
  const ios = Math.max(1, Math.min(packRecordsMax, Math.floor(readBytesMax / ioBytes)));
  const sink = await (options.kind === "sorted" ? sortedSink : indexedSink)(io, file, ioBytes, options);
  // Writers keep the order of their calls; a chunk is handed over when the one before has been.
  const work = (chunk: Memory, startBytes: number): Promise<void> => {
    if (chunk.sizeBytes % lbBytes !== 0 || (startBytes + chunk.sizeBytes) / lbBytes > addressLbMax) {
      throw new WalbError("bad-format", {
        what: `the image ends at byte ${startBytes + chunk.sizeBytes}, not at a block of ${lbBytes} bytes`,
        where: { file: input.name, field: "size" },
        hint: "give an image whose size is a multiple of 512 bytes",
      });
    }
    return sink.add(chunk, startBytes / lbBytes);
  };
  try {
    for await (const _ of inChunks({ memory: readPool }, input, ios * ioBytes, "reading an image", work, options));
  } catch (error) {
    await sink.abandon();
    throw error;
  }
  return await sink.finish();
}

/** Where chunks of the image go, in order of the calls. */
interface Sink {
  /** Resolves when the chunk's memory is no longer needed. */
  add(chunk: Memory, startLb: number): Promise<void>;
  finish(): Promise<DiffStats>;
  abandon(): Promise<void>;
}

async function indexedSink(io: DiffIo, file: DiskFile, ioBytes: number, options: ImageDiffOptions): Promise<Sink> {
  const { uuid = new Uint8Array(uuidBytes), compress = defaultCompress } = options;
  const writer = await IndexedDiffWriter.create(io, file, { uuid, compress });
  return {
    add: (chunk, startLb) => {
      const ios = piecesOf(chunk, ioBytes).map((data, i): LogIo => {
        const offsetLb = startLb + (i * ioBytes) / lbBytes;
        return { kind: "data", offsetLb, sizeLb: data.sizeBytes / lbBytes, data };
      });
      return writer.add(ios);
    },
    finish: () => writer.finish(),
    abandon: () => writer.abandon(),
  };
}

async function sortedSink(io: DiffIo, file: DiskFile, ioBytes: number, options: ImageDiffOptions): Promise<Sink> {
  const { uuid = new Uint8Array(uuidBytes), compress = defaultCompress } = options;
  const writer = await SortedDiffWriter.create(io, file, uuid);
  let before: Promise<void> = Promise.resolve();
  const run = async (chunk: Memory, startLb: number, turn: Promise<void>): Promise<void> => {
    const pieces = piecesOf(chunk, ioBytes);
    // The header, then room for every piece compressed.
    const lease = await io.memory.lease(packHeaderBytes + alignUp(chunk.sizeBytes, 8));
    try {
      const items = pieces.map((source, i) => ({
        source,
        target: lease.slice(packHeaderBytes + i * ioBytes, source.sizeBytes),
      }));
      const encoded = await io.compute.encode(items, compress);
      const header = lease.slice(0, packHeaderBytes);
      const builder = new PackBuilder(header);
      const stats = emptyStats();
      let atLb = startLb;
      encoded.forEach(({ isZero, codec, storedBytes, checksum }, i) => {
        const { source, target } = items[i]!;
        const sizeLb = source.sizeBytes / lbBytes;
        const kind = isZero ? RecordKind.allZero : RecordKind.normal;
        const stored = codec === Codec.none ? source : target.slice(0, storedBytes);
        if (isZero) builder.add(atLb, sizeLb, kind, Codec.none, 0, undefined);
        else builder.add(atLb, sizeLb, kind, codec, checksum, stored);
        countRecord(stats, kind, sizeLb);
        atLb += sizeLb;
      });
      builder.seal(io.compute);
      stats.dataBytes = builder.dataBytes;
      await turn;
      await writer.appendParts([header, ...builder.parts], stats, atLb);
    } finally {
      lease.release();
    }
  };
  return {
    add: (chunk, startLb) => {
      const job = run(chunk, startLb, before);
      before = job;
      // The one who waits for the job meets its failure; the turn behind it fails with the same.
      before.catch(() => undefined);
      return job;
    },
    finish: () => writer.finish(),
    abandon: () => before.catch(() => undefined),
  };
}

function piecesOf(chunk: Memory, pieceBytes: number): Memory[] {
  const pieces: Memory[] = [];
  for (let at = 0; at < chunk.sizeBytes; at += pieceBytes) {
    pieces.push(chunk.slice(at, Math.min(pieceBytes, chunk.sizeBytes - at)));
  }
  return pieces;
}
