/** @module `walb replicate VOL --to SERVER`: brings another archive up to date. */
import { asWalbError, WalbError, withArticle } from "../../errors.ts";
import { clientFlags, loadFleet, print, remark } from "../common.ts";
import { asAddressText, asCompression, asGid, asText, asVolume, option, required, toggle } from "../flags.ts";
import { runJob } from "../job.ts";
import { type ArchiveClient, archiveClient, namedServer, serverFor } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { formatDuration } from "../text/time.ts";
import { defineVerb, type Io } from "../verb.ts";

const askTimeoutMs = 5_000;
/** How long to wait before an archive that went away is asked again. */
const returnMs = 2_000;

export const verb = defineVerb({
  summary: "Brings another archive up to date with a volume's backups",
  description:
    "Sends what the other archive needs: everything to an empty one, diffs to one that has some, what differs between " +
    "images where no diffs lead on. It is told where it is; nothing is kept about it here.\n\n" +
    "With --once, the default, it ends when the other one has the newest point. With --follow it goes on with each new " +
    "diff, over failures and restarts, until Ctrl-C.\n\n" +
    "Points that somebody took, labelled or protected arrive as points; others are merged on their way unless " +
    "--all-points is said. Backups of another line (another full backup of the volume) are refused; --resync replaces " +
    "them, and they stay restorable until all of the new ones are there.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: {
    to: required(
      "SERVER",
      "the other archive: a name from the fleet file, or host:port as the archive reaches it",
      asText,
    ),
    once: toggle("end when the other archive has the newest point (default)"),
    follow: toggle("go on with each new diff until interrupted"),
    resync: toggle("replace what the other archive has of the volume, if it does not fit"),
    "all-points": toggle("send diff by diff, so that each point arrives"),
    until: option("GID", "only up to this snapshot", asGid),
    compress: option("CODEC[:LEVEL]", "on the way; default: as the archive is started", asCompression),
    ...clientFlags,
  },
  examples: [
    "walb replicate vol0 --to a1",
    "walb replicate vol0 --to a1 --follow",
    "walb replicate vol0 --server a1 --to backup3:10200 --all-points --compress zstd:3",
    "walb replicate vol0 --to a1 --resync",
  ],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    if (flags.once && flags.follow) throw new WalbError("usage", { what: "--once and --follow exclude each other" });
    if (flags.follow && flags.until !== undefined) {
      throw new WalbError("usage", { what: "--follow has no end, so --until cannot be said with it" });
    }
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    const { name, to } = await target();
    await makePlace();
    const params = {
      volume,
      to,
      ...(flags.resync ? { resync: true } : {}),
      ...(flags["all-points"] ? { keepAllPoints: true } : {}),
      ...(flags.until === undefined ? {} : { untilGid: flags.until }),
      ...(flags.compress === undefined ? {} : { compression: flags.compress }),
    };
    if (flags.follow) return follow();
    const result = await runJob(archive, "replicate", params, flags, io);
    const { gid, sentBytes, elapsedMs } = result;
    const how = result.isFull ? "a full copy" : result.isResync ? "a resync" : "what was missing";
    const text = `replicated ${volume} to ${name} up to gid ${gid}: ${how}, sent ${formatSize(sentBytes)} in ${formatDuration(elapsedMs)}\n`;
    print(flags, io, { volume, to: name, ...result }, text);
    return 0;

    /** An address is taken as it is: only the archive that sends has to reach it. */
    async function target(): Promise<{ name: string; to: string }> {
      if (flags.to.includes(":")) return { name: flags.to, to: asAddressText(flags.to) };
      const known = await namedServer(flags, io, flags.to, "archive");
      if (known.role === "archive") return { name: known.name, to: known.address };
      throw new WalbError("usage", {
        what: `${known.name} is ${withArticle(known.role)} server, --to needs an archive`,
      });
    }

    /** The other archive must know the volume. One that speaks no HTTP (walb-tools) says so itself. */
    async function makePlace(): Promise<void> {
      const { clusterKey } = loadFleet(flags, io);
      const other = archiveClient({ name, address: to, ...(clusterKey === undefined ? {} : { clusterKey }) });
      let state: string | undefined;
      try {
        const { volumes } = await other.call("status", { volume }, { timeoutMs: askTimeoutMs, signal: io.signal });
        state = volumes[0]?.state;
      } catch {
        return;
      }
      if (state !== "Clear") return;
      await other.call("init", { volume }, { timeoutMs: askTimeoutMs, signal: io.signal });
      remark(flags, io, `${volume} is new at ${name}: a place was made for it`);
    }

    async function follow(): Promise<number> {
      // A wrong address shows at once; from then on an archive that is away comes back.
      await archive.call("version", {}, { timeoutMs: askTimeoutMs, signal: io.signal });
      let isFirst = true;
      for (;;) {
        try {
          await runJob(
            archive,
            "replicate",
            { ...params, ...(isFirst ? {} : { resync: false }), follow: true },
            flags,
            io,
          );
        } catch (thrown) {
          if (io.signal.aborted) {
            remark(flags, io, `walb: ${volume} is not followed to ${name} any more`);
            return 0;
          }
          const error = asWalbError(thrown);
          const isAway = await wentAway(archive, error);
          if (!isAway) throw error;
          remark(flags, io, `walb: ${error.message}; trying again`);
        }
        isFirst = false;
        await pause(returnMs, io);
      }
    }
  },
});

/** Whether the archive ended or cannot be reached, so that it must be asked to follow again when it is back. */
async function wentAway(archive: ArchiveClient, error: WalbError): Promise<boolean> {
  if (error.code === "unreachable" || error.what.startsWith("the replicate was lost")) return true;
  if (error.code !== "cancelled") return false;
  // It cancels its jobs when it is shut down; who cancelled this one meant it.
  try {
    await archive.call("version", {}, { timeoutMs: askTimeoutMs });
    return false;
  } catch {
    return true;
  }
}

async function pause(ms: number, io: Io): Promise<void> {
  await Promise.race([
    Bun.sleep(ms),
    new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true })),
  ]);
}
