/** @module `walb storage`: the daemon of the host that has the volumes. */
import { resolve } from "node:path";
import {
  asAddress,
  asCompression,
  asDuration,
  asInt,
  asPath,
  asSize,
  list,
  option,
  optionOr,
  required,
} from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { defaultDataDir, given, retryFlags, roleFlags, roleOptions, runDaemon } from "./common.ts";

export const verb = defineVerb({
  summary: "Runs the storage daemon: ships the logs of this host's volumes to proxies",
  description:
    "Runs in the foreground until SIGTERM. Its port speaks the walb protocol and HTTP: curl http://127.0.0.1:10000/metrics",
  flags: {
    archive: required("HOST:PORT", "archive for full and hash backups", asAddress),
    proxy: list("HOST:PORT", "proxies in order of preference, with commas or repeated", asAddress, {
      isRequired: true,
    }),
    port: optionOr("PORT", "0 takes a free one", asInt(0, 65535), "10000"),
    data: optionOr("DIR", "state of the volumes", asPath, defaultDataDir("storage")),
    "device-socket": option("PATH", "control socket of walb device", asPath, {
      defaultText: `${defaultDataDir("device")}/control.sock`,
    }),
    "wlog-send-max": option("SIZE", "most log in one transfer, default 128M", asSize),
    "snapshot-interval": option("TIME", "between the snapshots of the clock, default 10s", asDuration),
    "full-scan-rate": option("SIZE", "limit of scans of backups, bytes per second; 0 for none", asSize),
    "archive-delta-interval": option("TIME", "between questions how far the archive is, default 60s", asDuration),
    "sync-compression": option("CODEC[:LEVEL]", "of full and hash backups, default snappy", asCompression),
    ...retryFlags,
    ...roleFlags,
  },
  examples: [
    "walb storage --archive backup1:10200 --proxy relay1:10100,relay2:10100",
    "walb storage --archive 127.0.0.1:10200 --proxy 127.0.0.1:10100 --data ./s0 --node s0",
  ],
  async run({ flags, io }) {
    const common = roleOptions(flags, io);
    const { openStorage } = await import("../../storage/server.ts");
    return runDaemon("storage", flags, io, async ({ platform, log, role }) => {
      const options = {
        ...common,
        ...role,
        archive: flags.archive,
        proxies: flags.proxy,
        deviceSocket: resolve(io.cwd, flags["device-socket"] ?? `${defaultDataDir("device")}/control.sock`),
        ...given("wlogSendBytesMax", flags["wlog-send-max"]),
        ...given("snapshotIntervalMs", flags["snapshot-interval"]),
        ...given("fullScanBytesPerS", flags["full-scan-rate"]),
        ...given("archiveDeltaIntervalMs", flags["archive-delta-interval"]),
        ...given("syncCompression", flags["sync-compression"]),
        ...given("retryDelayMs", flags["retry-delay"]),
        ...given("retryDelayMsMax", flags["retry-delay-max"]),
      };
      const server = await openStorage(platform, options, log);
      return { addresses: [server.address], close: (mode) => server.close(mode) };
    });
  },
});
