/** @module `wlog-update`: changes the header of a wlog file. */
import { WalbError } from "../../../errors.ts";
import { withFile } from "../../files/lib/paths.ts";
import { updateWlog } from "../../files/lib/wlog-update.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wlog-update",
  description: "wlog-update: update the header of a wlog file",
  options: {
    b: { kind: "int", help: "begin lsid" },
    e: { kind: "int", help: "end lsid" },
    s: { kind: "int", help: "salt" },
    u: { kind: "text", help: "uuid, 32 hex digits" },
  },
  params: [{ name: "WLOG", help: "wlog path" }],
  async run({ args, tool }) {
    const uuid = args.optionalText("u")?.toLowerCase();
    const salt = args.optionalInt("s");
    if (uuid !== undefined && !/^[0-9a-f]{32}$/.test(uuid)) {
      throw new WalbError("usage", { what: `bad uuid ${JSON.stringify(uuid)}`, where: { field: "u" } });
    }
    if (salt !== undefined && salt > 0xffff_ffff) {
      throw new WalbError("usage", { what: `bad salt ${salt}`, where: { field: "s" } });
    }
    await withFile(tool.platform.disk, args.param(0), "write", (file) =>
      updateWlog(tool, file, {
        ...(args.optionalText("b") === undefined ? {} : { beginLsid: args.bigint("b") }),
        ...(args.optionalText("e") === undefined ? {} : { endLsid: args.bigint("e") }),
        ...(salt === undefined ? {} : { salt }),
        ...(uuid === undefined ? {} : { uuid }),
      }),
    );
    return 0;
  },
});
