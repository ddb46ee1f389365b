/** @module The tree of commands; each is loaded only when it is called. */
import type { AnyVerb, VerbEntry, VerbGroup, VerbTree } from "./verb.ts";

function entry(summary: string, load: () => Promise<{ readonly verb: AnyVerb }>): VerbEntry {
  return { summary, load: async () => (await load()).verb };
}

const deviceVerbs: VerbTree = {
  create: entry("make a device", () => import("./device/create.ts")),
  list: entry("list the devices of this host", () => import("./device/list.ts")),
  show: entry("everything about one", () => import("./device/show.ts")),
  delete: entry("delete one", () => import("./device/delete.ts")),
  resize: entry("grow one", () => import("./device/resize.ts")),
  checkpoint: entry("write what is only in the log to the data store", () => import("./device/checkpoint.ts")),
  freeze: entry("hold its writes back", () => import("./device/freeze.ts")),
  melt: entry("let them go on", () => import("./device/melt.ts")),
  "reset-log": entry("empty its log", () => import("./device/reset-log.ts")),
  attach: entry("make it a block device of the kernel", () => import("./device/attach.ts")),
};

const device: VerbGroup = {
  summary: "daemon: walb devices of this host; and verbs to manage them",
  verbs: deviceVerbs,
  bare: entry("run the daemon", () => import("./daemon/device.ts")),
};

/** All commands. */
export const commands: VerbTree = {
  storage: entry("daemon: ships the logs of this host's volumes", () => import("./daemon/storage.ts")),
  proxy: entry("daemon: relays logs as diffs to archives", () => import("./daemon/proxy.ts")),
  archive: entry("daemon: keeps images and diffs, restores", () => import("./daemon/archive.ts")),
  device,
  init: entry("put a device under backup", () => import("./verbs/init.ts")),
  backup: entry("back a volume up as a whole, then continuously", () => import("./verbs/backup.ts")),
  snapshot: entry("keep a volume restorable as it is now", () => import("./verbs/snapshot.ts")),
  snapshots: entry("points a volume can be restored at", () => import("./verbs/snapshots.ts")),
  restore: entry("write a volume as it was", () => import("./verbs/restore.ts")),
  status: entry("is every volume protected, and why not", () => import("./verbs/status.ts")),
  start: entry("start a stopped volume", () => import("./verbs/start.ts")),
  stop: entry("stop a volume", () => import("./verbs/stop.ts")),
  kick: entry("retry now what waits", () => import("./verbs/kick.ts")),
  resize: entry("grow a volume", () => import("./verbs/resize.ts")),
  reset: entry("start a volume's backup from scratch", () => import("./verbs/reset.ts")),
  clear: entry("forget a volume with its backups", () => import("./verbs/clear.ts")),
  demo: entry("see the whole thing work on this machine", () => import("./demo/demo.ts")),
  version: entry("print the version", () => import("./verbs/version.ts")),
};
