/** @module `walb apply VOL --before TIME|GID`: moves the base image forward. */
import { WalbError } from "../../errors.ts";
import { callOptions, clientFlags, confirm, destructiveFlags, print } from "../common.ts";
import { asText, asVolume, required } from "../flags.ts";
import { runJob } from "../job.ts";
import { oldestToKeep } from "../restore/point.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { formatDuration, formatTime, parseTime } from "../text/time.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Gives up old points of a volume: writes their diffs into the base image and deletes them",
  description:
    "The newest point that is not after the time becomes the oldest one. Diffs come in meanwhile; restores wait.\n\n" +
    "What a restart, a full disk or an I/O error interrupts goes on by itself and gives way to restores; what is cancelled goes on with the next apply or restart. Everything newer stays restorable. Protected points are never given up.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: {
    before: required("TIME|GID", "the oldest point to be kept: when, how long ago, or a gid of walb snapshots", asText),
    ...destructiveFlags,
    ...clientFlags,
  },
  examples: ["walb apply vol0 --before -14d --dry-run", "walb apply vol0 --before 1234 --yes"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    const { snapshots } = await archive.call("snapshots", { volume, all: true }, callOptions(flags, io));
    const wishedGid = /^\d{1,17}$/.test(flags.before) ? BigInt(flags.before) : undefined;
    // The end of an interrupted apply is no point; the archive knows it.
    const point =
      wishedGid === undefined
        ? oldestToKeep(volume, snapshots, parseTime(flags.before, io.nowMs()), io.nowMs())
        : snapshots.find(({ gid }) => gid === wishedGid);
    const gid = point?.gid ?? wishedGid!;
    if (point !== undefined && point.gid === snapshots[0]?.gid && snapshots.length > 1 && wishedGid === undefined) {
      throw new WalbError("state", {
        what: `there is nothing to apply: ${formatTime(point.timeMs)} is the oldest point of ${volume} already`,
        where: { volume },
      });
    }
    const plan = await runJob(archive, "apply", { volume, gid, dryRun: true }, flags, io);
    const when = point === undefined ? "" : ` (${formatTime(point.timeMs)})`;
    const what = `${plan.lostPointCount} points before gid ${plan.gid}${when} of ${volume} at ${archive.server.name}`;
    if (flags["dry-run"]) {
      const text = `would give up ${what}: at most ${formatSize(plan.bytes)} to write\n`;
      print(flags, io, { volume, isDryRun: true, ...plan }, text);
      return 0;
    }
    await confirm(flags, io, `This gives up ${what}.`);
    const result = await runJob(archive, "apply", { volume, gid }, flags, io);
    const text = `gave up ${what}: wrote ${formatSize(result.bytes)} in ${formatDuration(result.elapsedMs)}\n`;
    print(flags, io, { volume, isDryRun: false, ...result }, text);
    return 0;
  },
});
