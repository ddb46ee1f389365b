/** @module `walb-storage`: the storage daemon with the original's options. */
import type { Logger } from "../../../control/logger.ts";
import type { RoleOptions, RunningRole } from "../../../control/role.ts";
import { controlSocketPath } from "../../../device/user/control/client.ts";
import { gib, mib } from "../../../units.ts";
import { defaultDataDir, given } from "../../daemon/common.ts";
import { defineOriginal } from "../tool.ts";
import { commonOptions, hostPort, positive, retryOf, retryOptions, runOriginalDaemon } from "./common.ts";

const wlMibMax = (64 * gib) / mib;

export const tool = defineOriginal({
  name: "walb-storage",
  description: "walb-storage: ships the logs of this host's walb devices to proxies",
  options: {
    ...commonOptions,
    ...retryOptions,
    archive: { kind: "text", help: "primary archive, host:port", isRequired: true },
    proxy: { kind: "text", help: "proxies in priority order, host:port,host:port", isRequired: true },
    b: { kind: "text", help: "base directory", default: "/var/forest/walb/storage" },
    wl: { kind: "int", help: "most log in one transfer, MiB", default: "128" },
    snapintvl: { kind: "int", help: "between implicit snapshots, seconds", default: "10" },
    fst: { kind: "int", help: "limit of full scans, bytes a second, 0 for none", default: "0" },
    tsdintvl: { kind: "int", help: "between questions how far the archive is, seconds", default: "60" },
    "sync-cmpr": { kind: "text", help: "compression of full and hash backups", default: "snappy:0:1" },
    "device-socket": {
      kind: "text",
      help: "control socket of walb device, for devices that the kernel has not; default: WALB_DEVICE_SOCKET",
    },
  },
  params: [],
  async run(context) {
    const {
      args,
      io,
      tool: { platform },
    } = context;
    const archive = hostPort(args.text("archive"), "archive");
    const proxies = args
      .text("proxy")
      .split(",")
      .map((text) => hostPort(text, "proxy"));
    const deviceSocket = args.optionalText("device-socket") ?? io.env.WALB_DEVICE_SOCKET;
    // The device tool works on the same devices.
    const execEnv: Record<string, string> = deviceSocket === undefined ? {} : { WALB_DEVICE_SOCKET: deviceSocket };
    const { openStorage } = await import("../../../storage/server.ts");
    const open = (common: RoleOptions, log: Logger): Promise<RunningRole> =>
      openStorage(
        platform,
        {
          ...common,
          ...retryOf(args),
          archive,
          proxies,
          deviceSocket: deviceSocket ?? controlSocketPath(defaultDataDir("device")),
          wlogSendBytesMax: Math.min(positive(args, "wl"), wlMibMax) * mib,
          snapshotIntervalMs: positive(args, "snapintvl") * 1000,
          archiveDeltaIntervalMs: positive(args, "tsdintvl") * 1000,
          ...given("fullScanBytesPerS", args.int("fst")),
          syncCompression: args.text("sync-cmpr"),
        },
        log,
      );
    return runOriginalDaemon("walb-storage", context, open, execEnv);
  },
});
