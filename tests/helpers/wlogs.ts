/** @module Doing with a wlog what the tools do, over any platform, for tests. */
import { applyDiffs } from "../../src/diff/apply.ts";
import { IndexedDiffWriter, SortedDiffConverter } from "../../src/diff/convert.ts";
import { planMerge } from "../../src/diff/merge.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import type { DiffIo, LogIo } from "../../src/diff/types.ts";
import { VirtualImage } from "../../src/diff/virtual.ts";
import { asWalbError } from "../../src/errors.ts";
import { loggedWritesOf } from "../../src/log/redo.ts";
import { planStoreWrites, runStoreWrites } from "../../src/log/storewrites.ts";
import { uuidBytes } from "../../src/log/superblock.ts";
import { type WlogInput, WlogReader } from "../../src/log/wlogfile.ts";
import type { MemoryPool } from "../../src/native/memory.ts";
import type { DiskFile } from "../../src/platform/disk.ts";

/** A platform with a second pool for what is read while the first is written from. */
export type WlogIo = DiffIo & { readonly readPool: MemoryPool };

/** Bytes as a sequential input. */
export function bytesInput(bytes: Uint8Array, name = "bytes"): WlogInput {
  let at = 0;
  return {
    name,
    read: (target) => {
      const size = Math.min(target.sizeBytes, bytes.length - at);
      target.bytes.set(bytes.subarray(at, at + size));
      at += size;
      return Promise.resolve(size);
    },
  };
}

/** Redoes a wlog onto an image. @returns the lsid behind it. */
export async function redoWlog(
  io: WlogIo,
  input: WlogInput,
  image: DiskFile,
  sizeLb: number,
  discard: "zero" | "ignore" = "zero",
): Promise<number> {
  const reader = new WlogReader(input, io.readPool, io.compute);
  const zeroes = await io.memory.lease(64 * 1024);
  zeroes.bytes.fill(0);
  let endLsid = 0;
  try {
    while ((await reader.nextHeader()) !== undefined) {
      const packs = reader.packs();
      for (let step = await packs.next(); ; step = await packs.next()) {
        if (step.done) {
          endLsid = step.value.endLsid;
          break;
        }
        try {
          const writes = loggedWritesOf(step.value, sizeLb);
          const kept = discard === "zero" ? writes : writes.filter(({ memory }) => memory !== undefined);
          await runStoreWrites(image, planStoreWrites(kept), zeroes);
        } catch (error) {
          throw asWalbError(error, { file: input.name });
        } finally {
          step.value.release();
        }
      }
    }
    return endLsid;
  } finally {
    zeroes.release();
  }
}

/** Converts a wlog into a diff file. */
export async function convertWlog(
  io: WlogIo,
  input: WlogInput,
  path: string,
  options: { readonly kind: "sorted" | "indexed"; readonly maxIoLb: number },
): Promise<void> {
  const reader = new WlogReader(input, io.readPool, io.compute);
  const header = await reader.nextHeader();
  const uuid = header === undefined ? new Uint8Array(16) : uuidBytes(header.uuid);
  const { kind, maxIoLb } = options;
  const file = await io.disk.open(path, { mode: "create" });
  const spool = kind === "sorted" ? await io.disk.open(`${path}.spool`, { mode: "create" }) : undefined;
  try {
    const writer =
      spool === undefined
        ? await IndexedDiffWriter.create(io, file, { uuid, maxIoLb })
        : new SortedDiffConverter(io, spool, { uuid, maxIoLb });
    try {
      for (let next = header; next !== undefined; next = await reader.nextHeader()) {
        for await (const batch of reader.packs()) {
          try {
            const ios: LogIo[] = [];
            for (const part of batch.parts) {
              part.data.forEach((data, i) => {
                ios.push({ ...part.header.records[part.firstRecord + i]!, data });
              });
            }
            await writer.add(ios);
          } finally {
            batch.release();
          }
        }
      }
    } catch (error) {
      await writer.abandon();
      throw error;
    }
    await (writer instanceof IndexedDiffWriter ? writer.finish() : writer.finish(file));
  } finally {
    await file.close();
    await spool?.close();
    await io.disk.remove(`${path}.spool`);
  }
}

/** Applies diff files to an image. */
export async function redoDiffs(
  io: DiffIo,
  paths: readonly string[],
  image: DiskFile,
  sizeLb: number,
  discard: "zero" | "ignore" = "zero",
): Promise<void> {
  const set = await openDiffSet(io, paths);
  try {
    await applyDiffs(io, set, planMerge(set.records), image, { sizeLb, discard });
  } finally {
    await set.close();
  }
}

/** Reads all of a virtual image. */
export async function readVirtual(
  io: WlogIo,
  paths: readonly string[],
  base: DiskFile,
  sizeLb: number,
  readBytes = 65536,
): Promise<Uint8Array> {
  const set = await openDiffSet(io, paths);
  const lease = await io.readPool.lease(readBytes);
  try {
    const image = await VirtualImage.open(io, set, planMerge(set.records), base, { sizeLb });
    const all = new Uint8Array(sizeLb * 512);
    for (let at = 0; at < all.length; at += readBytes) {
      const part = lease.slice(0, Math.min(readBytes, all.length - at));
      await image.read(at, part);
      all.set(part.bytes, at);
    }
    return all;
  } finally {
    lease.release();
    await set.close();
  }
}
