/**
 * @module Writes zeroes into a new log file ahead of where it grows.
 *
 * A sync behind an append to space that was never written also has to write what the file system keeps about that
 * space, which makes it two to three times slower. Only what was never written is written, so nothing is lost; and only
 * as far ahead as appends go soon, so that a new volume is there at once and one that is not used costs nothing.
 */
import { lsidOffsetBytes, pbToRingEnd } from "../../../log/geometry.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { alignUp, mib } from "../../../units.ts";
import type { EngineCore } from "./core.ts";

/** One write. */
const chunkBytes = mib;
/** Nothing is prepared nearer to the end of the log: appends are not to wait for it. */
const gapBytes = mib;
/** How far ahead of the end of the log all is prepared … */
const aheadBytes = 64 * mib;
/** … once less than this is. */
const lowBytes = 32 * mib;
/** Who syncs less often than after so much does not feel it. */
const seldomBytes = mib;
/** Rings below this go round so soon that it is not worth it. */
const ringBytesMin = 4 * aheadBytes;

export class LogPreparer {
  readonly #core: EngineCore;
  readonly #resume: () => void;
  /** All below was written before, or is to be left alone. */
  #doneLsid: number;
  /** When this is reached the whole ring was looked at. */
  readonly #stopLsid: number;
  #permanentLsid: number;
  #running: Promise<void> | undefined;
  #isStopped: boolean;

  /** `resume` is called when packing may go on. */
  constructor(core: EngineCore, resume: () => void) {
    this.#core = core;
    this.#resume = resume;
    const { ring, lsids, log } = core;
    this.#doneLsid = lsids.latest;
    this.#permanentLsid = lsids.permanent;
    this.#stopLsid = lsids.latest + ring.ringSizePb;
    this.#isStopped = log.isBlockDevice || log.allocate === undefined || ring.ringSizePb * ring.pbsBytes < ringBytesMin;
  }

  /** To be called when the log was synced. */
  noteSync(): void {
    if (this.#isStopped) return;
    const { lsids, ring } = this.#core;
    const syncedBytes = (lsids.permanent - this.#permanentLsid) * ring.pbsBytes;
    this.#permanentLsid = lsids.permanent;
    if (syncedBytes > seldomBytes || this.#running !== undefined) return;
    if ((this.#doneLsid - lsids.latest) * ring.pbsBytes >= lowBytes) return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  /** Ends it for good. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    const { parts, log } = this.#core;
    let file: DiskFile | undefined;
    try {
      // Past the page cache, so that what syncs of the log wait for does not grow. Never by the path of the log: another
      // file may have been put there, which must not be written to.
      file =
        log.ownPath === undefined ? undefined : await parts.disk.open(log.ownPath, { mode: "write", direct: true });
      if (file === undefined) this.#isStopped = true;
      while (file !== undefined && !this.#isStopped && (await this.#step(file)));
    } catch {
      // It was only to save time. What is wrong with the store appends meet too, and tell.
      this.#isStopped = true;
    } finally {
      await file?.close();
    }
  }

  /** Looks at one range, and prepares it if need be. False when all that is near is done. */
  async #step(file: DiskFile): Promise<boolean> {
    const core = this.#core;
    const { ring, lsids } = core;
    const { pbsBytes } = ring;
    const gapPb = gapBytes / pbsBytes;
    const chunkPb = chunkBytes / pbsBytes;
    const nextLsid = Math.max(this.#doneLsid, lsids.latest + gapPb);
    const nextBytes = lsidOffsetBytes(ring, nextLsid);
    const fromLsid = nextLsid + (alignUp(nextBytes, chunkBytes) - nextBytes) / pbsBytes;
    if (fromLsid >= this.#stopLsid - chunkPb) {
      this.#isStopped = true;
      return false;
    }
    if (fromLsid + chunkPb > lsids.latest + aheadBytes / pbsBytes) return false;
    const toEndPb = pbToRingEnd(ring, nextLsid);
    if (fromLsid + chunkPb > nextLsid + toEndPb) {
      this.#doneLsid = nextLsid + toEndPb;
      return true;
    }
    const offsetBytes = lsidOffsetBytes(ring, fromLsid);
    const data = await file.nextData(offsetBytes);
    const isEmpty = data === undefined || data.startBytes >= offsetBytes + chunkBytes;
    // Only where it was empty all over, and appends are not there yet.
    if (isEmpty && lsids.latest < fromLsid && core.failure === undefined) {
      core.preparingLsid = fromLsid;
      try {
        await file.write(offsetBytes, core.memory.zeroes.slice(0, chunkBytes));
      } finally {
        core.preparingLsid = Number.POSITIVE_INFINITY;
        this.#resume();
      }
    }
    this.#doneLsid = fromLsid + chunkPb;
    return true;
  }
}
