/** @module `walb device create NAME` */
import { resolve } from "node:path";
import { print } from "../common.ts";
import { asChoice, asInt, asPath, asSize, option, optionOr } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, renderDevice, withDevices } from "./common.ts";

export const verb = defineVerb({
  summary: "Makes a walb device: a block device that keeps a log of its writes",
  positionals: [{ name: "NAME", help: "name of the device, up to 25 letters, digits, dots, dashes", isRequired: true }],
  flags: {
    size: option("SIZE", "size; without it that of --data, which must exist then", asSize),
    data: option(
      "PATH",
      "file or block device for the data, used with its content; default: a file of the daemon",
      asPath,
      {
        isFromEnvironment: false,
      },
    ),
    log: option("PATH", "file or block device for the log; formatted", asPath, { isFromEnvironment: false }),
    "log-size": option("SIZE", "size of a log file to be made, default 1G", asSize),
    overflow: optionOr(
      "POLICY",
      "when the log is full: keep-writing (a new backup is needed) or stop (writes fail)",
      asChoice(["keep-writing", "stop"]),
      "keep-writing",
    ),
    "block-size": option("BYTES", "physical block size of the log, 512 or 4096", asInt(512, 4096)),
    ...deviceFlags,
  },
  examples: ["walb device create vol0 --size 10G", "walb device create vol0 --data /dev/vg/lv --log /dev/vg/lv-log"],
  async run({ flags, args, io }) {
    const pbsBytes = flags["block-size"];
    const volume = {
      name: asDeviceName(args[0]!),
      ...(flags.size === undefined ? {} : { sizeBytes: flags.size }),
      ...(flags.data === undefined ? {} : { dataPath: resolve(io.cwd, flags.data) }),
      ...(flags.log === undefined ? {} : { logPath: resolve(io.cwd, flags.log) }),
      ...(flags["log-size"] === undefined ? {} : { logSizeBytes: flags["log-size"] }),
      ...(pbsBytes === 512 || pbsBytes === 4096 ? ({ pbsBytes } as const) : {}),
      overflow: flags.overflow,
    };
    const report = await withDevices(flags, io, (client) => client.create(volume));
    print(flags, io, report, renderDevice(report));
    return 0;
  },
});
