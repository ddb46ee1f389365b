/** @module A plain model of a volume: what an image must be after a log, computed the obvious way, for oracles. */
import { lbBytes } from "../units.ts";
import { type LogPackHeader, recordDataPb } from "./pack.ts";

const pageBytes = 4096;

/** A volume held in memory, sparse by pages of 4 KiB. */
export class ImageModel {
  readonly sizeBytes: number;
  readonly #fill: number;
  readonly #pages = new Map<number, Uint8Array>();

  /** @param fill the byte that all of it holds at first. */
  constructor(sizeBytes: number, fill = 0) {
    this.sizeBytes = sizeBytes;
    this.#fill = fill;
  }

  /** Writes bytes. */
  write(offsetBytes: number, bytes: Uint8Array): void {
    this.#eachPage(offsetBytes, bytes.length, (page, at, done, size) =>
      page.set(bytes.subarray(done, done + size), at),
    );
  }

  /** Makes a range zero. */
  zero(offsetBytes: number, sizeBytes: number): void {
    this.#eachPage(offsetBytes, sizeBytes, (page, at, _done, size) => page.fill(0, at, at + size));
  }

  /** Fills `target` from an offset. */
  read(offsetBytes: number, target: Uint8Array): void {
    for (let done = 0; done < target.length; ) {
      const at = offsetBytes + done;
      const size = Math.min(target.length - done, pageBytes - (at % pageBytes));
      const page = this.#pages.get(Math.floor(at / pageBytes));
      if (page === undefined) target.fill(this.#fill, done, done + size);
      else target.set(page.subarray(at % pageBytes, (at % pageBytes) + size), done);
      done += size;
    }
  }

  /** All of it; for small volumes. */
  bytes(): Uint8Array {
    const all = new Uint8Array(this.sizeBytes);
    this.read(0, all);
    return all;
  }

  /**
   * Does what a pack says, record by record. @param bytes the pack: header PB, then data.
   * @param discard `zero`: discards read back as zeroes; `ignore`: they leave the old data.
   */
  applyPack(header: LogPackHeader, bytes: Uint8Array, pbsBytes: number, discard: "zero" | "ignore" = "zero"): void {
    let at = pbsBytes;
    for (const record of header.records) {
      const offsetBytes = record.offsetLb * lbBytes;
      if (record.kind === "data") this.write(offsetBytes, bytes.subarray(at, at + record.sizeLb * lbBytes));
      if (record.kind === "discard" && discard === "zero") this.zero(offsetBytes, record.sizeLb * lbBytes);
      at += recordDataPb(record, pbsBytes) * pbsBytes;
    }
  }

  #eachPage(
    offsetBytes: number,
    sizeBytes: number,
    use: (page: Uint8Array, at: number, done: number, size: number) => void,
  ): void {
    for (let done = 0; done < sizeBytes; ) {
      const at = offsetBytes + done;
      const size = Math.min(sizeBytes - done, pageBytes - (at % pageBytes));
      const number = Math.floor(at / pageBytes);
      let page = this.#pages.get(number);
      if (page === undefined) {
        page = new Uint8Array(pageBytes).fill(this.#fill);
        this.#pages.set(number, page);
      }
      use(page, at % pageBytes, done, size);
      done += size;
    }
  }
}
