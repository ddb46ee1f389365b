/** @module `walb device` without a verb: the daemon that makes walb devices in user space. */
import { hostname } from "node:os";
import { resolve } from "node:path";
import { WalbError } from "../../errors.ts";
import { isLoopbackName } from "../../http/guard.ts";
import type { Address } from "../../platform/net.ts";
import { asAddress, asPath, asText, list, optionOr, toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { daemonFlags, defaultDataDir, runDaemon } from "./common.ts";

export const verb = defineVerb({
  summary: "Runs the device daemon: block devices with a log, served over NBD",
  description:
    "Runs in the foreground until SIGTERM. Devices are made and managed with walb device create and its sisters.",
  flags: {
    data: optionOr(
      "DIR",
      "devices, their control socket and, unless said otherwise, their data",
      asPath,
      defaultDataDir("device"),
    ),
    nbd: list("ADDR", "serve NBD at unix:PATH or HOST:PORT; default unix:DIR/nbd.sock", asText),
    insecure: toggle("let --nbd listen on other addresses than loopback: NBD has no protection"),
    ...daemonFlags,
  },
  examples: ["walb device", "walb device --data ./dev --nbd unix:/run/walb/nbd.sock --nbd 127.0.0.1:10809"],
  async run({ flags, io }) {
    const dataDir = resolve(io.cwd, flags.data);
    const texts = flags.nbd.length === 0 ? [`unix:${dataDir}/nbd.sock`] : flags.nbd;
    const nbdListeners = texts.map((text) => nbdAddress(text, io.cwd, flags.insecure));
    const { openDeviceDaemon } = await import("../../device/user/daemon.ts");
    return runDaemon("device", flags, io, async ({ platform, log }) => {
      const options = {
        dataDir,
        nbdListeners,
        nodeId: flags.node ?? hostname(),
        onProblem: (error: WalbError) => log.warn(error.message, error.hint === undefined ? {} : { hint: error.hint }),
      };
      const daemon = await openDeviceDaemon(platform, options);
      return { addresses: daemon.nbdAddresses, close: () => daemon.close() };
    });
  },
});

function nbdAddress(text: string, cwd: string, isInsecure: boolean): Address {
  if (text.startsWith("unix:")) return { kind: "unix", path: resolve(cwd, text.slice("unix:".length)) };
  const address = asAddress(text);
  if (address.kind === "tcp" && !isLoopbackName(address.host) && !isInsecure) {
    throw new WalbError("usage", {
      what: `--nbd ${text}: anyone who reaches this address could read and write the devices`,
      where: { field: "nbd" },
      hint: "serve at unix:PATH or 127.0.0.1:PORT, or say --insecure when the network is trusted",
    });
  }
  return address;
}
