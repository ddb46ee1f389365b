/** @module `walb proxy`: the relay daemon. */
import { addressText } from "../../platform/net.ts";
import { asInt, asPath, asSize, option, optionOr, toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { defaultDataDir, given, retryFlags, roleFlags, roleOptions, runDaemon } from "./common.ts";

export const verb = defineVerb({
  summary: "Runs the proxy daemon: takes logs from storages, sends diffs to archives",
  description:
    "Runs in the foreground until SIGTERM. Its port speaks the walb protocol and HTTP: curl http://127.0.0.1:10100/metrics",
  flags: {
    port: optionOr("PORT", "0 takes a free one", asInt(0, 65535), "10100"),
    data: optionOr("DIR", "diffs that were not sent yet", asPath, defaultDataDir("proxy")),
    "wdiff-send-max": option("SIZE", "most data merged into one transfer, default 128M", asSize),
    "wdiff-send-count": option("COUNT", "most diffs merged into one transfer, default 1000", asInt(1, 1_000_000)),
    stopped: toggle("do not start volumes"),
    ...retryFlags,
    ...roleFlags,
  },
  examples: ["walb proxy", "walb proxy --port 10100 --data ./p0 --node p0"],
  async run({ flags, io }) {
    const common = roleOptions(flags, io);
    const { openProxy } = await import("../../proxy/server.ts");
    return runDaemon("proxy", flags, io, async ({ platform, log, role, afterReady }) => {
      const options = {
        ...common,
        ...role,
        isStopped: flags.stopped,
        ...given("wdiffSendBytesMax", flags["wdiff-send-max"]),
        ...given("wdiffSendCountMax", flags["wdiff-send-count"]),
        ...given("retryDelayMs", flags["retry-delay"]),
        ...given("retryDelayMsMax", flags["retry-delay-max"]),
      };
      const server = await openProxy(platform, options, log);
      afterReady(
        `next: walb up --archive ARCHIVE --proxy ${addressText(server.address)}\n` +
          "  (on the host that has the volumes; ARCHIVE is what walb archive listens on, host:port)\n",
      );
      return { addresses: [server.address], close: (mode) => server.close(mode) };
    });
  },
});
