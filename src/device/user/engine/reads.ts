/** @module Reads: pending writes and discards over the data store. */
import { asWalbError } from "../../../errors.ts";
import type { Memory } from "../../../native/memory.ts";
import { lbBytes } from "../../../units.ts";
import type { AllocationExtent, Done } from "../block.ts";
import type { EngineCore } from "./core.ts";

/**
 * Fills `target` with the newest completed data. What is pending is copied at once, before anything can change; the
 * rest is read from the data store, where writes that are applied meanwhile are either seen or not, as on any disk.
 */
export function readVolume(core: EngineCore, offsetBytes: number, target: Memory, done: Done): void {
  const startLb = offsetBytes / lbBytes;
  const endLb = startLb + target.sizeBytes / lbBytes;
  const gaps: number[] = [];
  let atLb = startLb;
  if (core.overlay.size > 0) {
    core.overlay.visit(startLb, endLb, (fromLb, toLb, write) => {
      if (fromLb > atLb) gaps.push(atLb, fromLb);
      const outBytes = (fromLb - startLb) * lbBytes;
      if (write.memory === undefined) {
        target.bytes.fill(0, outBytes, outBytes + (toLb - fromLb) * lbBytes);
      } else {
        const source = write.memory.bytes;
        const inBytes = (fromLb - write.offsetLb) * lbBytes;
        target.bytes.set(source.subarray(inBytes, inBytes + (toLb - fromLb) * lbBytes), outBytes);
      }
      atLb = toLb;
    });
  }
  if (atLb < endLb) gaps.push(atLb, endLb);
  if (gaps.length === 0) {
    queueMicrotask(() => done(undefined));
    return;
  }
  if (gaps.length === 2 && core.data.readCached !== undefined) {
    if (core.data.readCached(gaps[0]! * lbBytes, pieceOf(target, startLb, gaps[0]!, gaps[1]!))) {
      queueMicrotask(() => done(undefined));
      return;
    }
  }
  readGaps(core, startLb, target, gaps).then(
    () => done(undefined),
    (error: unknown) => done(asWalbError(error, { volume: core.settings.name })),
  );
}

async function readGaps(core: EngineCore, startLb: number, target: Memory, gaps: readonly number[]): Promise<void> {
  if (gaps.length === 2) return readGap(core, startLb, target, gaps[0]!, gaps[1]!);
  const jobs: Promise<void>[] = [];
  for (let i = 0; i < gaps.length; i += 2) jobs.push(readGap(core, startLb, target, gaps[i]!, gaps[i + 1]!));
  // The target is in use until the last one has ended.
  for (const result of await Promise.allSettled(jobs)) {
    if (result.status === "rejected") throw result.reason;
  }
}

function pieceOf(target: Memory, startLb: number, fromLb: number, toLb: number): Memory {
  const sizeBytes = (toLb - fromLb) * lbBytes;
  return fromLb === startLb && sizeBytes === target.sizeBytes
    ? target
    : target.slice((fromLb - startLb) * lbBytes, sizeBytes);
}

async function readGap(core: EngineCore, startLb: number, target: Memory, fromLb: number, toLb: number): Promise<void> {
  const piece = pieceOf(target, startLb, fromLb, toLb);
  if (!core.data.isDirect || piece.address % core.data.alignmentBytes === 0) {
    return core.data.read(fromLb * lbBytes, piece);
  }
  return core.bounced(async (bounce) => {
    for (let atBytes = 0; atBytes < piece.sizeBytes; atBytes += bounce.sizeBytes) {
      const memory = bounce.slice(0, Math.min(bounce.sizeBytes, piece.sizeBytes - atBytes));
      await core.data.read(fromLb * lbBytes + atBytes, memory);
      piece.bytes.set(memory.bytes, atBytes);
    }
  });
}

/** Bounds the work of one allocation query. */
const extentsMax = 65_536;

/** Extents of the range: the data store's holes, with pending writes over them. */
export async function volumeAllocation(
  core: EngineCore,
  offsetBytes: number,
  sizeBytes: number,
): Promise<AllocationExtent[]> {
  const endBytes = offsetBytes + sizeBytes;
  // Before the store is asked: what is applied meanwhile is then known from one of the two.
  const pending: { startBytes: number; endBytes: number; isHole: boolean }[] = [];
  core.overlay.visit(offsetBytes / lbBytes, endBytes / lbBytes, (fromLb, toLb, write) => {
    pending.push({ startBytes: fromLb * lbBytes, endBytes: toLb * lbBytes, isHole: write.memory === undefined });
  });
  const store: { startBytes: number; endBytes: number }[] = [];
  let atBytes = offsetBytes;
  while (atBytes < endBytes && store.length < extentsMax) {
    const extent = await core.data.nextData(atBytes);
    if (extent === undefined || extent.startBytes >= endBytes) break;
    store.push({ startBytes: Math.max(extent.startBytes, atBytes), endBytes: Math.min(extent.endBytes, endBytes) });
    atBytes = extent.endBytes;
  }
  // Beyond the bound all counts as data: never call data a hole.
  if (store.length === extentsMax && atBytes < endBytes) store.push({ startBytes: atBytes, endBytes });
  const extents: { sizeBytes: number; isHole: boolean }[] = [];
  const add = (toBytes: number, isHole: boolean): void => {
    if (toBytes <= filledBytes) return;
    const last = extents.at(-1);
    if (last?.isHole === isHole) last.sizeBytes += toBytes - filledBytes;
    else extents.push({ sizeBytes: toBytes - filledBytes, isHole });
    filledBytes = toBytes;
  };
  let filledBytes = offsetBytes;
  let next = 0;
  const addStore = (toBytes: number): void => {
    while (next < store.length && store[next]!.startBytes < toBytes) {
      const extent = store[next]!;
      add(Math.min(extent.startBytes, toBytes), true);
      add(Math.min(extent.endBytes, toBytes), false);
      if (extent.endBytes > toBytes) break;
      next += 1;
    }
    add(toBytes, true);
  };
  for (const piece of pending) {
    addStore(piece.startBytes);
    add(piece.endBytes, piece.isHole);
  }
  addStore(endBytes);
  return extents;
}
