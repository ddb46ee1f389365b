/** @module The tree of commands; each is loaded only when it is called. */
import { fileCommands } from "./files/commands.ts";
import { command, group } from "./program.ts";

const deviceVerbs = [
  command("create", "make a device", () => import("./device/create.ts")),
  command("list", "list the devices of this host", () => import("./device/list.ts")),
  command("show", "everything about one", () => import("./device/show.ts")),
  command("delete", "delete one", () => import("./device/delete.ts")),
  command("resize", "grow one", () => import("./device/resize.ts")),
  command("checkpoint", "write what is only in the log to the data store", () => import("./device/checkpoint.ts")),
  command("freeze", "hold its writes back", () => import("./device/freeze.ts")),
  command("melt", "let them go on", () => import("./device/melt.ts")),
  command("reset-log", "empty its log", () => import("./device/reset-log.ts")),
  command("attach", "make it a block device of the kernel", () => import("./device/attach.ts")),
  command("detach", "end that", () => import("./device/detach.ts")),
];

const device = group(
  "device",
  "daemon: walb devices of this host; and verbs to manage them",
  deviceVerbs,
  command("daemon", "run the daemon", () => import("./daemon/device.ts"), { hidden: true }),
);

const keyVerbs = [
  command("new", "make one", () => import("./key/new.ts")),
  command("show", "which keys a file has", () => import("./key/show.ts")),
  command("token", "for Prometheus, curl and browsers", () => import("./key/token.ts")),
  command("certificates", "for NBD clients, and to trust the daemons", () => import("./key/certificates.ts")),
];

/** The program with all its commands. */
export const program = group("walb", "walb: continuous, point-in-time backup and replication of block volumes", [
  command("storage", "daemon: ships the logs of this host's volumes", () => import("./daemon/storage.ts")),
  command("proxy", "daemon: relays logs as diffs to archives", () => import("./daemon/proxy.ts")),
  command("archive", "daemon: keeps images and diffs, restores", () => import("./daemon/archive.ts")),
  device,
  command("wdevc", "walb devices by the commands of the original's wdevc", () => import("./device/wdevc.ts")),
  command("worker", "applies policies: keep, merge, apply, replicate", () => import("./daemon/worker.ts")),
  command("init", "put a device under backup", () => import("./verbs/init.ts")),
  command("backup", "back a volume up as a whole, then continuously", () => import("./verbs/backup.ts")),
  command("snapshot", "keep a volume restorable as it is now", () => import("./verbs/snapshot.ts")),
  command("snapshots", "points a volume can be restored at", () => import("./verbs/snapshots.ts")),
  command("label", "name a snapshot", () => import("./verbs/label.ts")),
  command("protect", "keep a snapshot whatever the policy says", () => import("./verbs/protect.ts")),
  command("unprotect", "leave a snapshot to the policy again", () => import("./verbs/unprotect.ts")),
  command("disable-snapshot", "let merges take snapshots away", () => import("./verbs/disable-snapshot.ts")),
  command("enable-snapshot", "keep merges from taking snapshots away", () => import("./verbs/enable-snapshot.ts")),
  command("retain", "keep the points that the rules name", () => import("./verbs/retain.ts")),
  command("restore", "write a volume as it was", () => import("./verbs/restore.ts")),
  command("synchronize", "feed a second archive from the proxies", () => import("./verbs/synchronize.ts")),
  command("desynchronize", "end that", () => import("./verbs/desynchronize.ts")),
  command("promote", "make another archive the primary one", () => import("./verbs/promote.ts")),
  command("replace", "put a server in the place of another", () => import("./verbs/replace.ts")),
  command("switch", "let another storage ship a volume", () => import("./verbs/switch.ts")),
  command("standby", "only keep a volume's log free", () => import("./verbs/standby.ts")),
  command("replicate", "bring another archive up to date", () => import("./verbs/replicate.ts")),
  command("images", "images an archive keeps of a volume", () => import("./verbs/images.ts")),
  command("delete-image", "delete one of them", () => import("./verbs/delete-image.ts")),
  command("verify", "prove that volumes can be restored", () => import("./verbs/verify.ts")),
  command("diff", "what was written between two points", () => import("./verbs/diff.ts")),
  command("apply", "give up old points", () => import("./verbs/apply.ts")),
  command("merge", "make one diff of several", () => import("./verbs/merge.ts")),
  command("limit", "rates of an archive's large work", () => import("./verbs/limit.ts")),
  command("status", "is every volume protected, and why not", () => import("./verbs/status.ts")),
  command("check", "find mistakes in the fleet file and at the servers", () => import("./verbs/check.ts")),
  command("start", "start a stopped volume", () => import("./verbs/start.ts")),
  command("stop", "stop a volume", () => import("./verbs/stop.ts")),
  command("kick", "retry now what waits", () => import("./verbs/kick.ts")),
  command("dump-log-header", "keep a block of a log to look at", () => import("./verbs/dump-log-header.ts")),
  command("resize", "grow a volume", () => import("./verbs/resize.ts")),
  command("reset", "start a volume's backup from scratch", () => import("./verbs/reset.ts")),
  command("clear", "forget a volume with its backups", () => import("./verbs/clear.ts")),
  command("forget", "forget a volume everywhere", () => import("./verbs/forget.ts")),
  command("shutdown", "end daemons, in order", () => import("./verbs/shutdown.ts")),
  command("adopt", "take over a directory of walb-tools", () => import("./verbs/adopt.ts")),
  group("key", "the cluster key, which protects all connections", keyVerbs),
  ...fileCommands,
  command("demo", "see the whole thing work on this machine", () => import("./demo/demo.ts")),
  command("completion", "make a shell complete commands and flags", () => import("./verbs/completion.ts")),
  command("man", "print the manual page", () => import("./verbs/man.ts")),
  command("version", "print the version", () => import("./verbs/version.ts")),
]);
