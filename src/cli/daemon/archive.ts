/** @module `walb archive`: the daemon of the backup host. */
import { WalbError } from "../../errors.ts";
import { asChoice, asCompression, asInt, asPath, asSize, option, optionOr, toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { defaultDataDir, given, roleFlags, roleOptions, runDaemon } from "./common.ts";

export const verb = defineVerb({
  summary: "Runs the archive daemon: keeps images and diffs, restores",
  description:
    "Runs in the foreground until SIGTERM. Its port speaks the walb protocol and HTTP: curl http://127.0.0.1:10200/metrics",
  flags: {
    port: optionOr("PORT", "0 takes a free one", asInt(0, 65535), "10200"),
    data: optionOr("DIR", "images and diffs", asPath, defaultDataDir("archive")),
    images: optionOr("KIND", "where images are: file, lvm:VG or lvm:VG/POOL", asImages, "file"),
    discard: optionOr("POLICY", "what discards do to images", asChoice(["zero", "ignore", "passdown"]), "zero"),
    "wdiff-send-count": option(
      "COUNT",
      "most diffs merged into one replication transfer, default 64, which is the most",
      asInt(1, 1_000_000),
    ),
    "fsync-interval": option("SIZE", "data written between fsyncs, default 1G", asSize),
    "auto-resize": toggle("grow the image when a peer announces a larger volume"),
    "one-cold": toggle("keep only the newest point as an image for later restores"),
    "open-diffs-max": option("COUNT", "most diffs opened at once, 0 for all", asInt(0, 1_000_000)),
    "apply-sleep-percent": option("PERCENT", "share of time asleep while applying", asInt(0, 99)),
    "sync-compression": option("CODEC[:LEVEL]", "of replication, default snappy", asCompression),
    ...roleFlags,
  },
  examples: ["walb archive", "walb archive --port 10200 --data /backup/walb --node a0"],
  async run({ flags, io }) {
    const common = roleOptions(flags, io);
    const { openArchive } = await import("../../archive/server.ts");
    return runDaemon("archive", flags, io, async ({ platform, log, role, afterReady }) => {
      const options = {
        ...common,
        ...role,
        images: flags.images,
        discard: flags.discard,
        isAutoResize: flags["auto-resize"],
        isOneColdKept: flags["one-cold"],
        ...given("wdiffSendCountMax", flags["wdiff-send-count"]),
        ...given("fsyncIntervalBytes", flags["fsync-interval"]),
        ...given("openDiffsMax", flags["open-diffs-max"]),
        ...given("applySleepPercent", flags["apply-sleep-percent"]),
        ...given("syncCompression", flags["sync-compression"]),
      };
      const server = await openArchive(platform, options, log);
      afterReady("next: walb proxy   (on the host that relays; data and port by --data and --port)\n");
      return { addresses: [server.address], close: (mode) => server.close(mode) };
    });
  },
});

function asImages(text: string): string {
  if (/^(file|lvm:[A-Za-z0-9+_.-]+(\/[A-Za-z0-9+_.-]+)?)$/.test(text)) return text;
  throw new WalbError("usage", {
    what: `${JSON.stringify(text)} is no kind of images`,
    hint: "file, lvm:VG or lvm:VG/POOL",
  });
}
