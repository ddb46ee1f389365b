/**
 * @module Hashes and checksums of images, as the original's tools and its block-hash command compute them.
 *
 * Source: `docs/formats.md`, hashes. Inputs are files (`fileInput` of log/wlogfile.ts) or pipes.
 */

import { type ImageReadOptions, inChunks } from "../diff/chunks.ts";
import type { DiffInput } from "../diff/stream.ts";
import type { DiffIo } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import type { Memory } from "../native/memory.ts";
import { SipHash } from "../native/siphash.ts";
import { alignUp, checkRange, mib } from "../units.ts";

const chunkBytes = mib;
const bulkBytesMax = 4 * mib;

/** Passes on the first `sizeBytes` of an input. @throws WalbError `out-of-range` (on read) when it ends before them. */
export function limitInput(input: DiffInput, sizeBytes: number): DiffInput {
  let rest = checkRange(sizeBytes, 0, Number.MAX_SAFE_INTEGER, "sizeBytes");
  return {
    name: input.name,
    read: async (target) => {
      const wantBytes = Math.min(rest, target.sizeBytes);
      if (wantBytes === 0) return 0;
      const gotBytes = await input.read(target.slice(0, wantBytes));
      rest -= gotBytes;
      if (gotBytes < wantBytes) {
        throw new WalbError("out-of-range", {
          what: `the input ends ${rest} bytes before the ${sizeBytes} bytes that were asked for`,
          where: { file: input.name, field: "size" },
        });
      }
      return gotBytes;
    },
  };
}

/** Reads and drops the first `sizeBytes` of an input that cannot seek. @throws WalbError `out-of-range` when it is shorter. */
export async function skipInput(io: Pick<DiffIo, "memory">, input: DiffInput, sizeBytes: number): Promise<void> {
  const skipped = limitInput(input, sizeBytes);
  const lease = await io.memory.lease(chunkBytes);
  try {
    while ((await skipped.read(lease)) > 0);
  } finally {
    lease.release();
  }
}

/**
 * The hash of the archive's block-hash command: the exclusive-or of MurmurHash3 of each bulk with the bulk's number as
 * seed. It depends on the bulk size.
 * @returns 32 hex digits; all zero for an empty input.
 */
export async function blockHash(
  io: DiffIo,
  input: DiffInput,
  bulkBytes: number,
  options: ImageReadOptions = {},
): Promise<string> {
  checkRange(bulkBytes, 1, bulkBytesMax, "bulkBytes");
  const hash = new Uint8Array(16);
  const readBytes = bulkBytes * Math.max(1, Math.floor(chunkBytes / bulkBytes));
  const work = async (chunk: Memory, startBytes: number): Promise<Uint8Array[]> => {
    const jobs: Promise<Uint8Array>[] = [];
    for (let at = 0; at < chunk.sizeBytes; at += bulkBytes) {
      const bulk = chunk.slice(at, Math.min(bulkBytes, chunk.sizeBytes - at));
      jobs.push(io.compute.hashes([bulk], ((startBytes + at) / bulkBytes) % 0x1_0000_0000));
    }
    return await allSettled(jobs);
  };
  for await (const hashes of inChunks(io, input, readBytes, "hashing", work, options)) {
    for (const one of hashes) for (let i = 0; i < 16; i += 1) hash[i] = hash[i]! ^ one[i]!;
  }
  return hash.toHex();
}

/** The hash of one piece of an image. */
export interface PieceHash {
  readonly startBytes: number;
  readonly sizeBytes: number;
  /** 32 hex digits. */
  readonly hash: string;
}

/**
 * Hashes of the original's `bhash` tool: SipHash-2-4 (128 bits) of every `pieceBytes` of the input, or of all of it.
 * @param pieceBytes 0: one hash of everything, also of an empty input.
 */
export async function* toolHashes(
  io: DiffIo,
  input: DiffInput,
  pieceBytes: number,
  options: ImageReadOptions = {},
): AsyncGenerator<PieceHash, void, undefined> {
  checkRange(pieceBytes, 0, Number.MAX_SAFE_INTEGER, "pieceBytes");
  const sip: { hash: SipHash; sizeBytes: number } = { hash: new SipHash(), sizeBytes: 0 };
  let startBytes = 0;
  const end = (): PieceHash => {
    const piece = { startBytes, sizeBytes: sip.sizeBytes, hash: sip.hash.end() };
    startBytes += sip.sizeBytes;
    sip.hash = new SipHash();
    sip.sizeBytes = 0;
    return piece;
  };
  // The stream is hashed on this thread; chunks are small so that others get their turn.
  const work = (chunk: Memory): Promise<PieceHash[]> => {
    const pieces: PieceHash[] = [];
    for (let at = 0; at < chunk.sizeBytes; ) {
      const roomBytes = pieceBytes === 0 ? chunk.sizeBytes : pieceBytes - sip.sizeBytes;
      const takeBytes = Math.min(roomBytes, chunk.sizeBytes - at);
      sip.hash.update(chunk.bytes.subarray(at, at + takeBytes));
      sip.sizeBytes += takeBytes;
      at += takeBytes;
      if (sip.sizeBytes === pieceBytes) pieces.push(end());
    }
    return Promise.resolve(pieces);
  };
  try {
    for await (const pieces of inChunks(io, input, chunkBytes, "hashing", work, options)) yield* pieces;
    if (pieceBytes === 0 || sip.sizeBytes > 0) yield end();
  } finally {
    sip.hash.release();
  }
}

/** {@link toolHashes} of everything. @returns 32 hex digits. */
export async function toolHash(io: DiffIo, input: DiffInput, options: ImageReadOptions = {}): Promise<string> {
  for await (const { hash } of toolHashes(io, input, 0, options)) return hash;
  throw new WalbError("internal", { what: "an input has no hash" });
}

/** The walb checksum (32 bits) of every `pieceBytes` of the input, in order, each starting from the salt. */
export async function* imageChecksums(
  io: DiffIo,
  input: DiffInput,
  salt: number,
  pieceBytes: number,
  options: ImageReadOptions = {},
): AsyncGenerator<number, void, undefined> {
  checkRange(pieceBytes, 1, 64 * mib, "pieceBytes");
  checkRange(salt, 0, 0xffff_ffff, "salt");
  const readBytes = pieceBytes * Math.max(1, Math.floor(chunkBytes / pieceBytes));
  const work = (chunk: Memory): Promise<Uint32Array> => {
    const pieces: Memory[] = [];
    for (let at = 0; at < chunk.sizeBytes; at += pieceBytes) {
      pieces.push(chunk.slice(at, Math.min(pieceBytes, chunk.sizeBytes - at)));
    }
    return io.compute.checksums(pieces, salt);
  };
  for await (const sums of inChunks(io, input, readBytes, "checksumming", work, options)) yield* sums;
}

/** The walb checksum of all of an input, an unsigned 32-bit number. */
export async function imageChecksum(
  io: DiffIo,
  input: DiffInput,
  salt: number,
  options: ImageReadOptions = {},
): Promise<number> {
  checkRange(salt, 0, 0xffff_ffff, "salt");
  // A checksum is the negated sum of words, so those of whole chunks (multiples of 4 bytes) add up.
  let sum = -salt;
  const readBytes = alignUp(chunkBytes, 4);
  const work = (chunk: Memory): Promise<Uint32Array> => io.compute.checksums([chunk], 0);
  for await (const [one] of inChunks(io, input, readBytes, "checksumming", work, options)) sum = (sum + one!) | 0;
  return sum >>> 0;
}

/** All results, after everything has ended: nothing may run on into memory that is given back. */
async function allSettled<T>(jobs: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(jobs);
  return settled.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}
