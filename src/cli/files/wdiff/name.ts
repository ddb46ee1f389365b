/** @module `walb wdiff name GID…` */
import { WalbError } from "../../../errors.ts";
import { diffFileName } from "../../../snapshot/filename.ts";
import { diffMeta, snapshot } from "../../../snapshot/types.ts";
import { asText, option, toggle } from "../../flags.ts";
import { parseTime } from "../../text/time.ts";
import { defineVerb } from "../../verb.ts";
import { tell, toolFlags } from "../common.ts";

const plain = { isFromEnvironment: false } as const;

export const verb = defineVerb({
  summary: "Tells the file name of a wdiff between two snapshots",
  positionals: [{ name: "GID", help: "two gids, or the four of dirty snapshots", isRequired: true, isVariadic: true }],
  flags: {
    at: option("TIME", "its time; default now", asText, plain),
    unmergeable: toggle("it must not be merged with the one before"),
    compared: toggle("it was made by comparing images"),
    ...toolFlags,
  },
  examples: ["walb wdiff name 0 1", "walb wdiff name 5 8 9 9 --at 2026-01-02T03:04:05Z"],
  async run({ flags, args, io }) {
    const [a, b, c, d] = args.map(asAnyGid);
    if (a === undefined || b === undefined || (args.length !== 2 && args.length !== 4)) {
      throw new WalbError("usage", { what: `2 or 4 gids are needed, not ${args.length}`, where: { field: "GID" } });
    }
    const timeMs = flags.at === undefined ? io.nowMs() : parseTime(flags.at, io.nowMs());
    const diff = diffMeta({
      from: c === undefined ? snapshot(a, a, "from") : snapshot(a, b, "from"),
      to: c === undefined || d === undefined ? snapshot(b, b, "to") : snapshot(c, d, "to"),
      isMergeable: !flags.unmergeable,
      isCompared: flags.compared,
      timestampS: Math.floor(timeMs / 1000),
      dataSizeBytes: 0,
    });
    const name = diffFileName(diff);
    tell(flags, io, { name }, name);
    return 0;
  },
});

function asAnyGid(text: string): bigint {
  if (/^\d{1,20}$/.test(text)) return BigInt(text);
  throw new WalbError("usage", { what: `${JSON.stringify(text)} is not a gid`, where: { field: "GID" } });
}
