/** @module `fill-bdev`: writes to some blocks of a device, chosen by chance. */
import { WalbError } from "../../../errors.ts";
import { SeededRandom } from "../../../log/generate-random.ts";
import { checkRange, lbBytes } from "../../../units.ts";
import { withFile } from "../../files/lib/paths.ts";
import { deviceRange, fill } from "../random-writes.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "fill-bdev",
  description: "fill-bdev: write to some of the blocks of a device, chosen by chance; prints how many",
  options: {
    o: { kind: "int", help: "start, in bytes", default: "0" },
    s: { kind: "int", help: "size, in bytes; 0: to the end", default: "0" },
    b: { kind: "int", help: "size of a block, in bytes", default: "64K" },
    dp: { kind: "int", help: "blocks of 1000 that are written", default: "10" },
    rp: {
      kind: "int",
      help: "written blocks of 1000 that get random data; the others are filled with one byte",
      default: "0",
    },
    fi: { kind: "int", help: "sync after this many bytes", default: "128M" },
  },
  params: [{ name: "DEV", help: "device or file" }],
  async run({ args, tool, print }) {
    const { memory, random } = tool.platform;
    const blockBytes = checkRange(args.int("b"), lbBytes, 2 ** 25, "b");
    checkRange(blockBytes % lbBytes, 0, 0, "b modulo 512");
    const sizeBytes = args.int("s");
    const [dirtyShare, randomShare] = [args.int("dp") / 1000, args.int("rp") / 1000];
    const syncBytes = args.int("fi");
    const dice = new SeededRandom(random.u32());
    let written = 0;
    await withFile(tool.platform.disk, args.param(0), "write", async (file) => {
      const range = await deviceRange(file, lbBytes, args.int("o"), sizeBytes === 0 ? undefined : sizeBytes);
      const endBytes = range.offsetBytes + range.sizeBytes;
      const lease = await memory.lease(blockBytes);
      try {
        let unsyncedBytes = 0;
        for (let at = range.offsetBytes; at < endBytes; at += blockBytes) {
          if (tool.signal.aborted) throw new WalbError("cancelled", { what: "writing was cancelled" });
          if (!dice.chance(dirtyShare)) continue;
          const data = lease.slice(0, Math.min(blockBytes, endBytes - at));
          fill(data, dice, dice.chance(randomShare) ? undefined : 1 + dice.below(255));
          await file.write(at, data);
          written += 1;
          unsyncedBytes += data.sizeBytes;
          if (unsyncedBytes < syncBytes) continue;
          unsyncedBytes = 0;
          await file.sync();
        }
        await file.sync();
      } finally {
        lease.release();
      }
    });
    print(String(written));
    return 0;
  },
});
