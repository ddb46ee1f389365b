/** @module `walbc virt-full-scan`: the content of a volume at a snapshot, to a device, a file or standard output. */
import { WalbError } from "../../../errors.ts";
import { Codec } from "../../../native/codec.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import type { Platform } from "../../../platform/platform.ts";
import { lbBytes } from "../../../units.ts";
import { bulkLbMax } from "../../../wire/bulk-stream.ts";
import { defaultBulkLb, parseBulkLb } from "../../../wire/grammar.ts";
import { runVirtualScan, type ScannedBulk, type ScanSink } from "../../../wire/scan.ts";
import type { WireStream } from "../../../wire/stream.ts";
import { type Output, openOutput } from "../../files/lib/paths.ts";

/** Receives a scan. @param args `[destination, volume, gid, bulk, size, sleepPct]`. */
export async function receiveScan(platform: Platform, stream: WireStream, args: readonly string[]): Promise<void> {
  const [destination = "", ...parameters] = args;
  const bulkLb = parameters[2] === undefined ? defaultBulkLb : parseBulkLb(parameters[2]);
  const path = destination === "stdout" ? "-" : destination;
  const output = await openOutput(platform, path, { overwrite: true });
  const writer = new ScanWriter(platform, output);
  await runVirtualScan(stream, parameters, bulkLb, platform.memory, writer);
}

/** Writes bulks in order, as they come. */
class ScanWriter implements ScanSink {
  readonly #platform: Platform;
  readonly #output: Output;
  readonly #file: DiskFile;
  /** Holes are zeroes where the file was made anew. */
  #hasHoles = false;

  constructor(platform: Platform, output: Output) {
    this.#platform = platform;
    this.#output = output;
    this.#file = output.file;
  }

  async begin(sizeLb: number): Promise<void> {
    const sizeBytes = sizeLb * lbBytes;
    if (this.#file.isBlockDevice) {
      const deviceBytes = await this.#file.size();
      if (deviceBytes >= sizeBytes) return;
      throw new WalbError("out-of-range", {
        what: `the device has ${deviceBytes} bytes, but the volume ${sizeBytes}`,
        where: { file: this.#file.path },
      });
    }
    if (this.#file.alignmentBytes === 1) return;
    this.#hasHoles = true;
    await this.#file.truncate(sizeBytes);
  }

  async write(bulk: ScannedBulk): Promise<void> {
    const offsetBytes = bulk.offsetLb * lbBytes;
    const sizeBytes = bulk.sizeLb * lbBytes;
    try {
      if (bulk.data === undefined && this.#hasHoles) return;
      if (bulk.data === undefined && this.#file.isBlockDevice) {
        await this.#file.zero(offsetBytes, sizeBytes);
        return;
      }
      const lease = await this.#platform.memory.lease(bulkLbMax * lbBytes);
      try {
        const target = lease.slice(0, sizeBytes);
        if (bulk.data === undefined) target.bytes.fill(0);
        else await this.#expand(bulk.data, target);
        await this.#file.write(offsetBytes, target);
      } finally {
        lease.release();
      }
    } finally {
      bulk.release();
    }
  }

  async #expand(source: NonNullable<ScannedBulk["data"]>, target: NonNullable<ScannedBulk["data"]>): Promise<void> {
    const checksum = (await this.#platform.compute.checksums([source], 0))[0]!;
    const [result] = await this.#platform.compute.decode([{ source, codec: Codec.snappy, checksum, target }]);
    if (result !== 0) throw new WalbError("protocol", { what: "a bulk of the scan cannot be expanded" });
  }

  async finish(): Promise<void> {
    if (this.#file.isBlockDevice) await this.#file.sync();
    await this.#output.commit();
  }

  abandon(): Promise<void> {
    return this.#output.abandon();
  }
}
