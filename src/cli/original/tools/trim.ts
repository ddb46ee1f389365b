/** @module `trim`: discards a range of a device. */
import { WalbError } from "../../../errors.ts";
import { RealDiskFile } from "../../../platform/real/file.ts";
import { checkRange, lbBytes } from "../../../units.ts";
import { withFile } from "../../files/lib/paths.ts";
import { deviceRange } from "../random-writes.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "trim",
  description: "trim: discard a range of a device; prints a dot for each unit",
  options: {
    o: { kind: "int", help: "start, in bytes", default: "0" },
    t: { kind: "int", help: "size, in bytes; default: to the end" },
    u: { kind: "int", help: "discard this many bytes at once; default: all" },
  },
  params: [{ name: "DEV", help: "device or file" }],
  async run({ args, tool, print }) {
    await withFile(tool.platform.disk, args.param(0), "write", async (file) => {
      if (!(file instanceof RealDiskFile)) {
        throw new WalbError("unsupported", { what: "it cannot discard", where: { file: file.path } });
      }
      const range = await deviceRange(file, lbBytes, args.int("o"), args.optionalInt("t"));
      const endBytes = range.offsetBytes + range.sizeBytes;
      if (range.sizeBytes === 0) return;
      const unitBytes = checkRange(args.optionalInt("u") ?? range.sizeBytes, lbBytes, Number.MAX_SAFE_INTEGER, "u");
      let dots = "";
      for (let at = range.offsetBytes; at < endBytes; at += unitBytes) {
        if (tool.signal.aborted) throw new WalbError("cancelled", { what: "discarding was cancelled" });
        await file.discard(at, Math.min(unitBytes, endBytes - at));
        dots += ".";
      }
      await file.sync();
      print(dots);
    });
    return 0;
  },
});
