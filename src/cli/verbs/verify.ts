/** @module `walb verify VOL…`: proves that volumes can be restored. */
import { exitCodes } from "../../errors.ts";
import { clientFlags, print } from "../common.ts";
import { asDuration, asPercent, asVolume, option } from "../flags.ts";
import { runJob } from "../job.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { formatDuration } from "../text/time.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Reads the backups of volumes to their end and checks every checksum",
  description:
    "Checks all data of all diffs, then reads the base image and what the diffs lay over it. Of each MiB of the base image a\n" +
    "hash is kept beside it until an apply writes there: what its disk or another program has changed since it was read the\n" +
    "last time is damage too. Damage is named with the points it costs; the exit code is then 5, and 1 when nothing is damaged but something cannot be read. A part at a time: --subset reads what was not read for longest, so that it all is read\n" +
    "in turn.",
  positionals: [{ name: "VOL", help: "names of the volumes", isRequired: true, isVariadic: true }],
  flags: {
    subset: option("PERCENT", "only so much of diffs and image, e.g. 10%", asPercent),
    stale: option("TIME", "only diffs that were not verified for so long, e.g. 30d", asDuration),
    ...clientFlags,
  },
  examples: ["walb verify vol0", "walb verify vol0 vol1 --subset 10%", "walb verify vol0 --stale 30d"],
  async run({ flags, args, io }) {
    const results = [];
    let isGood = true;
    let isDamaged = false;
    let text = "";
    for (const volume of args.map(asVolume)) {
      const archive = archiveClient(await serverFor(flags, io, "archive", volume));
      const params = {
        volume,
        ...(flags.subset === undefined ? {} : { subsetPercent: flags.subset }),
        ...(flags.stale === undefined ? {} : { staleMs: flags.stale }),
      };
      const result = await runJob(archive, "verify", params, flags, io);
      results.push({ volume, ...result });
      const read = `${result.checkedCount} of ${result.diffCount} diffs (${formatSize(result.checkedBytes)}) and ${formatSize(result.imageBytes)} of the image, ${formatSize(result.comparedBytes ?? 0)} of it compared with before`;
      const took = `in ${formatDuration(result.elapsedMs)}`;
      const notKept = result.notKept === undefined ? "" : `  what was read could not be noted: ${result.notKept}\n`;
      if (result.damage.length === 0) {
        text += `${volume}: good; read ${read} ${took}\n${notKept}`;
        continue;
      }
      isGood = false;
      const isRead = result.damage.some(({ code }) => code !== "unreadable");
      isDamaged ||= isRead;
      text += `${volume}: ${isRead ? "DAMAGED" : "CANNOT BE READ"}, ${result.lostPointCount} points cannot be restored; read ${read} ${took}\n`;
      for (const { file, message, hint } of result.damage)
        text += `  ${file}: ${message}\n${hint === undefined ? "" : `    ${hint}\n`}`;
      text += notKept;
    }
    print(flags, io, { isGood, volumes: results }, text);
    if (isGood) return exitCodes.done;
    return isDamaged ? exitCodes.damaged : exitCodes.failed;
  },
});
