/** @module Where the data store was written since it was synced: so that it can be written back a little at a time. */
import { mib } from "../../../units.ts";

const regionBytes = mib;
/** What is written all over the place is not kept track of: 64 GiB of regions. */
const regionsMax = 65_536;
/** Of one slice: what a disk does in a millisecond or a few, so that a sync of the log never waits for long. */
const sliceBytes = mib;

/** A part of a store. */
export interface Slice {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export class DirtyRegions {
  /** Bytes written, by number of the region. */
  #written = new Map<number, number>();
  #isTooMany = false;

  note(offsetBytes: number, sizeBytes: number): void {
    if (this.#isTooMany) return;
    const endBytes = offsetBytes + sizeBytes;
    for (let atBytes = offsetBytes; atBytes < endBytes; ) {
      const region = Math.floor(atBytes / regionBytes);
      const toBytes = Math.min(endBytes, (region + 1) * regionBytes);
      this.#written.set(region, (this.#written.get(region) ?? 0) + toBytes - atBytes);
      atBytes = toBytes;
    }
    if (this.#written.size <= regionsMax) return;
    this.#isTooMany = true;
    this.#written.clear();
  }

  /** A sync that begins now covers all that was noted. */
  clear(): void {
    this.#written.clear();
    this.#isTooMany = false;
  }

  /** Takes all that was noted, in order of the place, in slices of about as much. None when it was too much. */
  take(): Slice[] {
    const written = this.#written;
    this.#written = new Map();
    this.#isTooMany = false;
    const slices: Slice[] = [];
    let startBytes = 0;
    let sumBytes = 0;
    let endBytes = 0;
    const close = (): void => {
      if (sumBytes > 0) slices.push({ offsetBytes: startBytes, sizeBytes: endBytes - startBytes });
      sumBytes = 0;
    };
    for (const region of [...written.keys()].sort((a, b) => a - b)) {
      const bytes = written.get(region) ?? 0;
      if (sumBytes + bytes > sliceBytes) close();
      if (sumBytes === 0) startBytes = region * regionBytes;
      sumBytes += bytes;
      endBytes = (region + 1) * regionBytes;
    }
    close();
    return slices;
  }
}
