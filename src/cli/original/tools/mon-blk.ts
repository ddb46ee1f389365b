/** @module `mon-blk`: reads a range of blocks again and again, and prints its hash whenever it has changed. */
import { checkRange, lbBytes, mib } from "../../../units.ts";
import { withFile } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "mon-blk",
  description: "mon-blk: print the time and the hash of blocks whenever they change, until it is interrupted",
  options: {
    seed: { kind: "int", help: "seed of the hash", default: "0" },
    sleep: { kind: "int", help: "time between two reads, in ms", default: "0" },
    nodirect: { kind: "flag", help: "accepted, without effect" },
  },
  params: [
    { name: "ADDR", help: "address in blocks" },
    { name: "SIZE", help: "number of blocks" },
    { name: "PATH", help: "device or file" },
  ],
  async run({ args, tool, print, io, flush }) {
    const { memory } = tool.platform;
    const offsetBytes = args.intParam(0) * lbBytes;
    const sizeBytes = checkRange(args.intParam(1) * lbBytes, lbBytes, 64 * mib, "SIZE in bytes");
    const seed = checkRange(args.int("seed"), 0, 0xffff_ffff, "seed");
    const sleepMs = args.int("sleep");
    await withFile(tool.platform.disk, args.param(2), "read", async (file) => {
      const lease = await memory.lease(sizeBytes);
      try {
        let last = "";
        while (!tool.signal.aborted) {
          const hash = (await file.readHashed(offsetBytes, lease.slice(0, sizeBytes), sizeBytes, seed)).toHex();
          if (hash !== last) {
            print(`${new Date(io.nowMs()).toISOString().replace("Z", "")}\t${hash}`);
            flush();
          }
          last = hash;
          await untilAborted(sleepMs, tool.signal);
        }
      } finally {
        lease.release();
      }
    });
    return 0;
  },
});

function untilAborted(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end, { once: true });
  });
}
