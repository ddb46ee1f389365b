/** @module `wlog-redo`: replays a wlog onto a device. */
import { applyCountLines, type LogApplyOptions } from "../../files/lib/apply-counts.ts";
import { redoWlog } from "../../files/lib/log-apply.ts";
import { packLines } from "../../files/lib/log-text.ts";
import { withFile, withInput } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wlog-redo",
  description: "wlog-redo: replay a wlog on a device",
  options: {
    i: { kind: "text", help: "wlog path, - for stdin", default: "-" },
    d: { kind: "flag", help: "issue discards for discard records" },
    z: { kind: "flag", help: "write zeroes for discard records" },
    noaio: { kind: "flag", help: "one write after the other" },
    skipcsum: { kind: "flag", help: "accepted, without effect: data is always checked" },
    v: { kind: "flag", help: "verbose" },
  },
  params: [{ name: "DEVICE", help: "device or file to write" }],
  async run({ args, tool, print }) {
    const discard = args.flag("z") ? "zero" : args.flag("d") ? "passdown" : "ignore";
    const onPack: LogApplyOptions["onPack"] = (header, checksum, writes) => {
      print(packLines(header, checksum));
      for (const { offsetLb, sizeLb } of writes) print(`CREATE\t\t${offsetLb}\t${sizeLb}`);
    };
    const counts = await withInput(tool.platform.disk, args.text("i"), (input) =>
      withFile(tool.platform.disk, args.param(0), "write", (image) =>
        redoWlog(tool, input, image, {
          discard,
          lenient: true,
          clip: true,
          ...(args.flag("v") ? { onPack } : {}),
        }),
      ),
    );
    if (args.flag("noaio")) {
      // Without its queue the original writes everything, also what is replaced at once.
      counts.written.ios += counts.overwritten.ios;
      counts.written.lb += counts.overwritten.lb;
      counts.overwritten.ios = 0;
      counts.overwritten.lb = 0;
    }
    print(applyCountLines(counts));
    return 0;
  },
});
