/** @module `walb restore VOL --to PATH`: writes the volume as it was. */
import { isAbsolute, resolve } from "node:path";
import { WalbError } from "../../errors.ts";
import { isLoopbackName } from "../../http/guard.ts";
import { clientFlags, print } from "../common.ts";
import { asGid, asPath, asText, asVolume, option, parseAddress, toggle } from "../flags.ts";
import { runJob } from "../job.ts";
import { notVerified, remarkFuture } from "../restore/remarks.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { formatDuration, formatTime, parseTime } from "../text/time.ts";
import { defineVerb, type Io } from "../verb.ts";

export const verb = defineVerb({
  summary: "Writes a volume as it was to a file or block device on the archive's host, or to standard output",
  description:
    "Without --at or --snapshot: as of the newest point. The newest point not after the time is taken.\n\n" +
    "With --to - the image comes over the network to standard output of this host, from front to back.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: {
    to: option("PATH", "file to be made, or block device to be written; - is standard output, here", asPath),
    keep: toggle("let the archive keep the image where its other images are, see walb images"),
    at: option("TIME", 'as of when: "2026-11-21 14:03:05", ISO 8601, -5m, -2h', asText),
    snapshot: option("GID", "as of a snapshot of walb snapshots", asGid),
    overwrite: toggle("replace an existing file, write over a device"),
    "dry-run": toggle("only say what point, how much and how long"),
    ...clientFlags,
  },
  examples: [
    "walb restore vol0 --to /restore/vol0.img",
    'walb restore vol0 --at "2026-11-21 14:03:05" --to /dev/vg/restored --overwrite',
    "walb restore vol0 --at -5m --to /restore/vol0.img --dry-run",
    "walb restore vol0 --keep",
    "walb restore vol0 --to - --server backup1:10200 | zstd > vol0.img.zst",
  ],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    if (flags.at !== undefined && flags.snapshot !== undefined) {
      throw new WalbError("usage", { what: "--at and --snapshot exclude each other" });
    }
    if ((flags.to === undefined) !== flags.keep) {
      throw new WalbError("usage", {
        what: flags.keep ? "--to and --keep exclude each other" : "--to is missing: where the image goes",
        where: { field: "to" },
        hint: "say --keep to let the archive keep it",
      });
    }
    const server = await serverFor(flags, io, "archive", volume);
    const wish = {
      ...(flags.at === undefined ? {} : { atMs: parseTime(flags.at, io.nowMs()) }),
      ...(flags.snapshot === undefined ? {} : { gid: flags.snapshot }),
    };
    if (flags.to === "-") {
      // Loads much that no other restore needs.
      const { restoreToOutput } = await import("../restore/output.ts");
      return restoreToOutput(server, volume, wish, flags, io);
    }
    const params = {
      volume,
      ...(flags.to === undefined ? {} : { to: targetPath(flags.to, server.address, io) }),
      ...wish,
      ...(flags.overwrite ? { overwrite: true } : {}),
      ...(flags["dry-run"] ? { dryRun: true } : {}),
    };
    const result = await runJob(archiveClient(server), "restore", params, flags, io);
    const point = `${volume} as of ${formatTime(result.timeMs)} (snapshot ${result.gid}, ${formatSize(result.sizeBytes)})`;
    const to = params.to ?? result.path ?? "an image that the archive keeps";
    const takes = result.estimateMs === undefined ? "" : `, about ${formatDuration(result.estimateMs)}`;
    const text = flags["dry-run"]
      ? `would restore ${point} to ${to}: ${formatSize(result.bytes)} to write${takes}; ${notVerified}\n`
      : `restored ${point} to ${to}: wrote ${formatSize(result.bytes)} in ${formatDuration(result.elapsedMs)}\n`;
    remarkFuture(wish, result.timeMs, flags, io);
    print(flags, io, { volume, to, isDryRun: flags["dry-run"], ...result }, text);
    return 0;
  },
});

/** The path as the archive's host sees it: relative ones are taken from here when that is this host. */
function targetPath(to: string, address: string, io: Io): string {
  if (isAbsolute(to)) return to;
  const target = parseAddress(address);
  if (target.kind === "tcp" && isLoopbackName(target.host)) return resolve(io.cwd, to);
  throw new WalbError("usage", {
    what: `--to ${to}: the file is made on the archive's host (${address}), so the path must be absolute`,
    where: { field: "to" },
    hint: `e.g. --to /restore/${to.replace(/^.*\//, "")}; to have it here: --to - > ${to}`,
  });
}
