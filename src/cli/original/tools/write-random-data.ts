/** @module `write_random_data`: writes random data to a device and prints what it wrote, for `verify_written_data`. */
import { checkRange } from "../../../units.ts";
import { withFile } from "../../files/lib/paths.ts";
import { deviceRange, writeRandom } from "../random-writes.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "write_random_data",
  description: "write_random_data: write random data to a device; what is written is printed as a recipe",
  options: {
    b: { kind: "int", help: "block size in bytes", default: "512" },
    o: { kind: "int", help: "first block", default: "0" },
    s: { kind: "int", help: "number of blocks; default: to the end" },
    n: { kind: "int", help: "smallest write, in blocks", default: "1" },
    x: { kind: "int", help: "largest write, in blocks", default: "64" },
    set: { kind: "int", help: "write this byte instead of random ones" },
    q: { kind: "int", help: "accepted, without effect", default: "128" },
    v: { kind: "flag", help: "accepted, without effect" },
  },
  params: [{ name: "DEV", help: "device or file" }],
  async run({ args, tool, print }) {
    const blockBytes = checkRange(args.int("b"), 512, 2 ** 24, "b");
    const blocks = args.optionalInt("s");
    const fillByte = args.optionalInt("set");
    await withFile(tool.platform.disk, args.param(0), "write", async (file) => {
      const range = await deviceRange(file, blockBytes, args.int("o") * blockBytes, blocks && blocks * blockBytes);
      const options = {
        ...range,
        blockBytes,
        ioMinBytes: args.int("n") * blockBytes,
        ioMaxBytes: checkRange(args.int("x") * blockBytes, blockBytes, 2 ** 25, "x"),
        ...(fillByte === undefined ? {} : { fillByte: checkRange(fillByte, 0, 255, "set") }),
      };
      await writeRandom(tool, file, options, ({ offsetLb, sizeLb, checksum }) =>
        print(`${offsetLb} ${sizeLb} ${checksum.toString(16).padStart(8, "0")}`),
      );
    });
    return 0;
  },
});
