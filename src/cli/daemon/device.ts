/** @module `walb device` without a verb: the daemon that makes walb devices in user space. */
import { hostname } from "node:os";
import { resolve } from "node:path";
import type { WalbError } from "../../errors.ts";
import type { Address } from "../../platform/net.ts";
import { asAddress, asDuration, asPath, asText, list, optionOr, toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { daemonFlags, defaultDataDir, given, runDaemon, securityFlags } from "./common.ts";
import { securityOf } from "./security.ts";

export const verb = defineVerb({
  summary: "Runs the device daemon: block devices with a log, served over NBD",
  description:
    "Runs in the foreground until SIGTERM. Devices are made and managed with walb device create and its sisters. With a " +
    "cluster key, NBD over TCP is TLS with certificates of both sides: walb key certificates DIR.",
  flags: {
    data: optionOr(
      "DIR",
      "devices, their control socket and, unless said otherwise, their data",
      asPath,
      defaultDataDir("device"),
    ),
    nbd: list("ADDR", "serve NBD at unix:PATH or HOST:PORT; default unix:DIR/nbd.sock", asText),
    "start-timeout": optionOr(
      "TIME",
      "devices that take longer to open, since a disk hangs, do not keep the others from being served",
      asDuration,
      "1m",
    ),
    "stop-timeout": optionOr(
      "TIME",
      "a stop gives up stores that hang after this time; the next start redoes their logs",
      asDuration,
      "1m",
    ),
    insecure: toggle("let --nbd listen on other addresses than loopback without protection"),
    ...securityFlags,
    ...daemonFlags,
  },
  examples: ["walb device", "walb device --data ./dev --nbd unix:/run/walb/nbd.sock --nbd 127.0.0.1:10809"],
  async run({ flags, io }) {
    const dataDir = resolve(io.cwd, flags.data);
    const texts = flags.nbd.length === 0 ? [`unix:${dataDir}/nbd.sock`] : flags.nbd;
    const nbdListeners = texts.map((text) => nbdAddress(text, io.cwd));
    const hosts = nbdListeners.flatMap((address) => (address.kind === "tcp" ? [address.host] : []));
    securityOf(flags, hosts, "nbd");
    const { openDeviceDaemon } = await import("../../device/user/daemon.ts");
    return runDaemon("device", flags, io, async ({ platform, log, security }) => {
      const options = {
        dataDir,
        nbdListeners,
        ...given("nbdTls", security),
        nodeId: flags.node ?? hostname(),
        startLimitMs: flags["start-timeout"],
        stopLimitMs: flags["stop-timeout"],
        onProblem: (error: WalbError) => log.warn(error.message, error.hint === undefined ? {} : { hint: error.hint }),
      };
      const daemon = await openDeviceDaemon(platform, options);
      return { addresses: daemon.nbdAddresses, close: () => daemon.close() };
    });
  },
});

function nbdAddress(text: string, cwd: string): Address {
  if (text.startsWith("unix:")) return { kind: "unix", path: resolve(cwd, text.slice("unix:".length)) };
  return asAddress(text);
}
