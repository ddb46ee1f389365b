/** @module `walb merge VOL`: makes one diff of several. */
import { WalbError } from "../../errors.ts";
import { clientFlags, print } from "../common.ts";
import { asGid, asSize, asVolume, option, toggle } from "../flags.ts";
import { runJob } from "../job.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { formatDuration } from "../text/time.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Makes one diff of several, which saves space and makes restores faster",
  description:
    "Points that nobody took, labelled or protected are given up between the first and the last diff; a snapshot that\n" +
    "somebody took ends the merge. Without --from it begins at the oldest diff.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: {
    from: option("GID", "first diff: the one that starts at this point or next", asGid),
    to: option("GID", "last diff: the one that ends at this point or before", asGid),
    "max-size": option("SIZE", "most data to merge", asSize),
    "dry-run": toggle("only say how many diffs would become one"),
    ...clientFlags,
  },
  examples: ["walb merge vol0 --dry-run", "walb merge vol0 --from 120 --to 240", "walb merge vol0 --max-size 10G"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    if (flags.to !== undefined && flags["max-size"] !== undefined) {
      throw new WalbError("usage", { what: "--to and --max-size exclude each other" });
    }
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    const params = {
      volume,
      fromGid: flags.from ?? 0n,
      ...(flags.to === undefined ? {} : { toGid: flags.to }),
      ...(flags["max-size"] === undefined ? {} : { maxBytes: flags["max-size"] }),
      ...(flags["dry-run"] ? { dryRun: true } : {}),
    };
    const result = await runJob(archive, "merge", params, flags, io);
    const text = flags["dry-run"]
      ? `would make one diff of ${result.mergedCount} with ${formatSize(result.bytes)}\n`
      : `made one diff of ${result.mergedCount}, ${formatSize(result.bytes)}, in ${formatDuration(result.elapsedMs)}\n`;
    print(flags, io, { volume, isDryRun: flags["dry-run"], ...result }, text);
    return 0;
  },
});
