/** @module `walb-archive`: the archive daemon with the original's options. */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import { WalbError } from "../../../errors.ts";
import { defineOriginal } from "../tool.ts";
import { commonOptions, positive, runOriginalDaemon } from "./common.ts";

const discards = ["ignore", "passdown", "zero"] as const;

export const tool = defineOriginal({
  name: "walb-archive",
  description: "walb-archive: keeps images and diffs of volumes, restores them",
  options: {
    ...commonOptions,
    b: { kind: "text", help: "base directory", default: "/var/forest/walb/archive" },
    vg: { kind: "text", help: "LVM volume group of the images", default: "vg" },
    tp: { kind: "text", help: "thin pool in it; without one the volumes are classic", default: "" },
    images: { kind: "text", help: "where images are instead: file, in the base directory" },
    wn: { kind: "int", help: "most diffs in one replication transfer", default: "1000" },
    discard: { kind: "text", help: "what discards do to images: zero, ignore, passdown", default: "zero" },
    fi: { kind: "int", help: "data written between fsyncs, bytes", default: "1G" },
    autoresize: { kind: "flag", help: "grow an image when a peer announces a larger volume" },
    "keep-one-cold-snap": { kind: "flag", help: "keep only the newest cold snapshot after a restore" },
    maxopen: { kind: "int", help: "most diffs opened at once, 0 for all", default: "0" },
    "maxopen-virt": { kind: "int", help: "accepted; scans open as many diffs as they need", default: "0" },
    "apply-sleep-pct": { kind: "int", help: "share of time asleep while applying", default: "0" },
    "sync-cmpr": { kind: "text", help: "compression of replication", default: "snappy:0:1" },
    "lock-time-th": { kind: "text", help: "accepted; nothing waits for locks", default: "10.0" },
  },
  params: [],
  async run(context) {
    const {
      args,
      io,
      tool: { platform },
    } = context;
    const base = resolve(io.cwd, args.text("b"));
    if (statSync(base, { throwIfNoEntry: false })?.isDirectory() !== true) {
      throw new WalbError("not-found", { what: `the base directory is not there:${base}`, hint: "make it" });
    }
    const discard = discards.find((known) => known === args.text("discard"));
    if (discard === undefined) throw new WalbError("usage", { what: `bad discard type:${args.text("discard")}` });
    const { openArchive } = await import("../../../archive/server.ts");
    return runOriginalDaemon("walb-archive", context, (common, log) =>
      openArchive(
        platform,
        {
          ...common,
          images: args.optionalText("images") ?? lvmImages(args.text("vg"), args.text("tp")),
          discard,
          wdiffSendCountMax: positive(args, "wn"),
          fsyncIntervalBytes: positive(args, "fi"),
          isAutoResize: args.flag("autoresize"),
          isOneColdKept: args.flag("keep-one-cold-snap"),
          openDiffsMax: args.int("maxopen"),
          applySleepPercent: args.int("apply-sleep-pct"),
          syncCompression: args.text("sync-cmpr"),
        },
        log,
      ),
    );
  },
});

function lvmImages(volumeGroup: string, thinPool: string): string {
  return thinPool === "" ? `lvm:${volumeGroup}` : `lvm:${volumeGroup}/${thinPool}`;
}
