/** @module `walb diff VOL A B`: what was written between two points. */
import { callOptions, clientFlags, print } from "../common.ts";
import { asInt, asVolume, option } from "../flags.ts";
import { runJob } from "../job.ts";
import { choosePoint } from "../restore/point.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { renderTable } from "../text/table.ts";
import { formatTime, parseTime } from "../text/time.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Lists the ranges of a volume that were written between two points",
  description:
    "From the indexes of the diffs alone, so that it is quick however much was written. A range may have been written with\n" +
    "what it held before. ZERO: it reads as zeroes at B, because it was written so or discarded.",
  positionals: [
    { name: "VOL", help: "name of the volume", isRequired: true },
    { name: "A", help: "the older point: a gid of walb snapshots, or a time", isRequired: true },
    { name: "B", help: "the newer point", isRequired: true },
  ],
  flags: { max: option("COUNT", "most ranges to list (default 1000)", asInt(0, 100_000)), ...clientFlags },
  examples: ["walb diff vol0 120 140", "walb diff vol0 -1h -5m --max 0", "walb diff vol0 120 140 --json"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    const { snapshots } = await archive.call("snapshots", { volume, all: true }, callOptions(flags, io));
    const [from, to] = [args[1]!, args[2]!].map((text) => {
      const isGid = /^\d{1,17}$/.test(text);
      const wish = isGid ? { gid: BigInt(text) } : { atMs: parseTime(text, io.nowMs()) };
      return choosePoint(volume, snapshots, wish, io.nowMs());
    }) as [(typeof snapshots)[number], (typeof snapshots)[number]];
    const params = { volume, fromGid: from.gid, toGid: to.gid };
    const limit = flags.max === undefined ? {} : { rangesMax: flags.max };
    const result = await runJob(archive, "changes", { ...params, ...limit }, flags, io);
    const columns = [{ title: "OFFSET", align: "right" }, { title: "BYTES", align: "right" }, { title: "" }] as const;
    const rows = result.ranges.map(({ offsetBytes, sizeBytes, isZero }) => [
      `${offsetBytes}`,
      `${sizeBytes}`,
      isZero ? "ZERO" : "",
    ]);
    const more = result.rangeCount - rows.length;
    const text =
      `${volume} from ${formatTime(from.timeMs)} (${from.gid}) to ${formatTime(to.timeMs)} (${to.gid}): ` +
      `${formatSize(result.changedBytes)} in ${result.rangeCount} ranges, ${formatSize(result.zeroBytes)} of them zeroes\n` +
      (rows.length === 0 ? "" : renderTable(columns, rows)) +
      (more > 0 && rows.length > 0 ? `and ${more} more\n` : "");
    print(flags, io, { volume, ...result }, text);
    return 0;
  },
});
