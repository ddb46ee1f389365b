/** @module The commands on files: logs, diffs, images. */
import { command, group } from "../program.ts";

/** `log-device`, `wlog`, `wdiff`, `image`. */
export const fileCommands = [
  group("log-device", "log devices as files: make, look into, check, replay, extract", [
    command("format", "make an empty log", () => import("./log-device/format.ts")),
    command("show", "superblock, counts, packs", () => import("./log-device/show.ts")),
    command("check", "read all and check every checksum", () => import("./log-device/check.ts")),
    command("redo", "bring the data up to the end of the log", () => import("./log-device/redo.ts")),
    command("search", "find damaged packs, and go on behind them", () => import("./log-device/search.ts")),
    command("dump", "raw blocks of a range", () => import("./log-device/dump.ts")),
    command("export", "write the log as a wlog", () => import("./log-device/export.ts")),
  ]),
  group("wlog", "wlog files and streams", [
    command("show", "header, counts, packs", () => import("./wlog/show.ts")),
    command("redo", "replay onto an image", () => import("./wlog/redo.ts")),
    command("restore", "write back into a log device", () => import("./wlog/restore.ts")),
    command("to-wdiff", "convert to a wdiff", () => import("./wlog/to-wdiff.ts")),
    command("generate", "make one of random writes", () => import("./wlog/generate.ts")),
    command("verify", "check one with all its data", () => import("./wlog/verify.ts")),
    command("analyze", "how much is overwritten", () => import("./wlog/analyze.ts")),
    command("update", "change a header", () => import("./wlog/update.ts")),
    command("cat", "extract from a log device", () => import("./wlog/cat.ts")),
  ]),
  group("wdiff", "wdiff files and streams", [
    command("show", "header, counts, records; check the data", () => import("./wdiff/show.ts")),
    command("merge", "merge several into one", () => import("./wdiff/merge.ts")),
    command("redo", "apply to an image", () => import("./wdiff/redo.ts")),
    command("from-image", "make one of a full image", () => import("./wdiff/from-image.ts")),
    command("verify", "check with all data", () => import("./wdiff/verify.ts")),
    command("dump", "copy a range of blocks out", () => import("./wdiff/dump.ts")),
    command("send", "deliver one to an archive", () => import("./wdiff/send.ts")),
    command("name", "the file name between two snapshots", () => import("./wdiff/name.ts")),
  ]),
  group("image", "images: with diffs over them, hashes, differences", [
    command("cat", "a base with wdiffs over it", () => import("./image/cat.ts")),
    command("hash", "hash of an image", () => import("./image/hash.ts")),
    command("diff", "compare two block by block", () => import("./image/diff.ts")),
    command("checksum", "walb checksums", () => import("./image/checksum.ts")),
  ]),
];
