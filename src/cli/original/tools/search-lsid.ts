/** @module `search-lsid`: looks for the header blocks of lsids. */
import { openLogDevice } from "../../files/lib/log-range.ts";
import { findHeaders } from "../../files/lib/log-search.ts";
import { withReadable } from "../../files/lib/spooled.ts";
import { parseOriginalInt } from "../options.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "search-lsid",
  description: "search-lsid: find the header blocks of lsids in all of the ring of a log device",
  options: {
    bgn: { kind: "int", help: "first address, in physical blocks", default: "0" },
    end: { kind: "int", help: "end address, in physical blocks" },
  },
  params: [
    { name: "WLDEV", help: "log device" },
    { name: "LSID", help: "lsids to look for", isVariadic: true },
  ],
  async run({ args, tool, print }) {
    const lsids = new Set(args.params.slice(1).map((text) => parseOriginalInt(text, "LSID")));
    const [begin, end] = [args.int("bgn"), args.optionalInt("end") ?? Number.MAX_SAFE_INTEGER];
    await withReadable(tool, args.param(0), async (file) =>
      findHeaders(tool, await openLogDevice(tool, file), lsids, ({ addressPb, lsid, isValid }) => {
        if (addressPb >= begin && addressPb < end) print(`${addressPb}\t${lsid}\t${isValid ? "valid" : "invalid"}`);
      }),
    );
    return 0;
  },
});
