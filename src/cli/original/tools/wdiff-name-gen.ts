/** @module `wdiff-name-gen`: makes the file name of a wdiff. */

import { WalbError } from "../../../errors.ts";
import { diffFileName } from "../../../snapshot/filename.ts";
import { parseCompactTime } from "../../../snapshot/time.ts";
import { diffMeta, snapshot } from "../../../snapshot/types.ts";
import { parseOriginalInt } from "../options.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wdiff-name-gen",
  description: "wdiff-name-gen: generate the name of a wdiff file",
  options: {
    d: { kind: "text", help: "timestamp YYYYMMDDhhmmss; default: now" },
    nomerge: { kind: "flag", help: "not mergeable" },
    comp: { kind: "flag", help: "compared diff" },
  },
  params: [{ name: "GID", help: "two gids, or four", isVariadic: true }],
  async run({ args, print, io }) {
    const gids = args.params.map((text) => parseOriginalInt(text, "GID"));
    const [a, b, c, d] = gids;
    if (a === undefined || b === undefined || (gids.length !== 2 && gids.length !== 4)) {
      throw new WalbError("usage", { what: `2 or 4 gids are needed, not ${gids.length}` });
    }
    const time = args.optionalText("d");
    const diff = diffMeta({
      from: c === undefined ? snapshot(a, a, "from") : snapshot(a, b, "from"),
      to: c === undefined || d === undefined ? snapshot(b, b, "to") : snapshot(c, d, "to"),
      isMergeable: !args.flag("nomerge"),
      isCompared: args.flag("comp"),
      timestampS: time === undefined ? Math.floor(io.nowMs() / 1000) : parseCompactTime(time, "timestamp"),
      dataSizeBytes: 0,
    });
    print(diffFileName(diff));
    return 0;
  },
});
