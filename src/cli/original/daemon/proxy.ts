/** @module `walb-proxy`: the proxy daemon with the original's options. */
import { mib } from "../../../units.ts";
import { defineOriginal } from "../tool.ts";
import { commonOptions, positive, retryOf, retryOptions, runOriginalDaemon } from "./common.ts";

export const tool = defineOriginal({
  name: "walb-proxy",
  description: "walb-proxy: makes diffs of received logs and sends them to archives",
  options: {
    ...commonOptions,
    ...retryOptions,
    b: { kind: "text", help: "base directory", default: "/var/forest/walb/proxy" },
    stop: { kind: "flag", help: "do not start volumes" },
    wd: { kind: "int", help: "most data merged into one transfer, MiB", default: "128" },
    wn: { kind: "int", help: "most diffs merged into one transfer", default: "1000" },
    rto: { kind: "int", help: "accepted; sending is never given up", default: "1800" },
    wl: { kind: "int", help: "accepted, without effect, as in later releases", default: "128" },
  },
  params: [],
  async run(context) {
    const {
      args,
      tool: { platform },
    } = context;
    const { openProxy } = await import("../../../proxy/server.ts");
    return runOriginalDaemon("walb-proxy", context, (common, log) =>
      openProxy(
        platform,
        {
          ...common,
          ...retryOf(args),
          isStopped: args.flag("stop"),
          isAllStarted: true,
          wdiffSendBytesMax: positive(args, "wd") * mib,
          wdiffSendCountMax: positive(args, "wn"),
        },
        log,
      ),
    );
  },
});
