/** @module `walb device create NAME` */
import { resolve } from "node:path";
import { WalbError } from "../../errors.ts";
import { print } from "../common.ts";
import { asChoice, asPath, asSize, option, optionOr, toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { asDeviceName, deviceFlags, renderDevice, withDevices } from "./common.ts";
import { tuningFlags, tuningOf } from "./tuning.ts";

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
    "reuse-log": toggle("take over the log that is in --log, e.g. of the kernel driver, instead of formatting it"),
    "log-size": option("SIZE", "size of a log file to be made, default 1G", asSize),
    overflow: optionOr(
      "POLICY",
      "when the log is full: keep-writing (a new backup is needed) or stop (writes fail)",
      asChoice(["keep-writing", "stop"]),
      "keep-writing",
    ),
    ...tuningFlags,
    "block-size": option("BYTES", "physical block size of the log, 512 or 4096", asChoice(["512", "4096"])),
    ...deviceFlags,
  },
  examples: [
    "walb device create vol0 --size 10G",
    "walb device create vol0 --data /dev/vg/lv --log /dev/vg/lv-log",
    "walb device create vol0 --size 10G --max-pending 32M --min-pending 16M",
    "walb device create vol0 --kernel --data /dev/vg/lv --log /dev/vg/lv-log",
  ],
  async run({ flags, args, io }) {
    if (flags["reuse-log"]) checkReuse(flags);
    const tuning = tuningOf(flags);
    const volume = {
      name: asDeviceName(args[0]!),
      ...(flags.size === undefined ? {} : { sizeBytes: flags.size }),
      ...(flags.data === undefined ? {} : { dataPath: resolve(io.cwd, flags.data) }),
      ...(flags.log === undefined ? {} : { logPath: resolve(io.cwd, flags.log) }),
      ...(flags["log-size"] === undefined ? {} : { logSizeBytes: flags["log-size"] }),
      ...(flags["block-size"] === undefined ? {} : ({ pbsBytes: flags["block-size"] === "512" ? 512 : 4096 } as const)),
      ...(flags["reuse-log"] ? { reuseLog: true } : {}),
      overflow: flags.overflow,
      ...(Object.keys(tuning).length === 0 ? {} : { tuning }),
    };
    const report = await withDevices(flags, io, (client) => client.create(volume));
    print(flags, io, report, renderDevice(report));
    return 0;
  },
});

/** What a log that is there already fixes cannot be asked for. */
function checkReuse(flags: {
  readonly log: string | undefined;
  readonly data: string | undefined;
  readonly "log-size": number | undefined;
  readonly "block-size": string | undefined;
}): void {
  const refuse = (what: string): never => {
    throw new WalbError("usage", {
      what,
      hint: "walb device create vol0 --data /dev/vg/lv --log /dev/vg/lv-log --reuse-log",
    });
  };
  if (flags.log === undefined) refuse("--reuse-log needs --log, the store that has the log");
  if (flags.data === undefined) refuse("--reuse-log needs --data, the store that the log belongs to");
  if (flags["log-size"] !== undefined) refuse("--reuse-log: the log has its size already, leave --log-size out");
  if (flags["block-size"] !== undefined) {
    refuse("--reuse-log: the log has its block size already, leave --block-size out");
  }
}
